"""A method is declared twice, as a spec and as a function: both say the same."""

from __future__ import annotations

import inspect

import pytest

from core import specs
from core.attacks import function_of

EVERY = [*specs.METHODS.values(), *specs.UNIVERSAL_METHODS.values()]


@pytest.mark.parametrize("method", EVERY, ids=lambda cls: cls.__name__)
def test_spec_and_function_agree(method: type[specs.Method]) -> None:
    """Names, defaults and order of the settings; what the spec says that it takes, and nothing that it does not."""
    settings = {name: info.get_default() for name, info in method.model_fields.items() if name != "name"}
    if method.needs_surrogate:
        settings.pop("surrogate")  # the id of a model here, the model itself there
    takes = inspect.signature(function_of(method)).parameters
    assert {name: takes[name].default for name in takes if name in settings} == settings
    assert [name for name in takes if name in settings] == list(settings)
    assert [takes[name].kind for name in settings] == [inspect.Parameter.KEYWORD_ONLY] * len(settings)
    assert ("eps" in takes) == method.needs_eps
    assert ("streams" in takes) == method.random
    assert ("x_init" in takes) == method.takes_start
    assert ("early_stop" in takes) == method.stops_early
    assert ("surrogate" in takes) == method.needs_surrogate
    assert ("budget" in takes) == (not method.fixed_cost)
