"""One registration: an attack, a network and a data set of this file are everywhere, and no other file is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from pydantic import Field, ValidationError
from streamlit.testing.v1 import AppTest
from torch import Tensor, nn

from core import specs
from core.__main__ import main
from core.attacks import AttackResult, check_attack, function_of, run_method
from core.attacks.engine.checks import check
from core.attacks.engine.door import attack
from core.attacks.engine.engine import frozen, predict
from core.attacks.engine.geometry import linf_bounds
from core.attacks.engine.losses import Goal
from core.attacks.engine.result import finish
from core.data import Split
from core.networks import build
from core.specs.methods.base import METHODS, Method, Norm, register

Capture = pytest.CaptureFixture[str]


@attack(gradients=False)
def fog(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float | Tensor,
    grey: float = 0.5,
    y_target: Tensor | None = None,
    on_progress: Any = None,
) -> AttackResult:
    """Move every pixel towards one grey, as far as eps allows."""
    low, high = linf_bounds(x, check(model, x, y, eps=eps, y_target=y_target))
    goal, once = Goal.of(y, y_target), torch.ones_like(y)
    with frozen(model):
        before = goal.reached(predict(model, x))
        x_adv = torch.where(before[:, None, None, None], x, torch.full_like(x, grey).clamp(low, high))
        claimed = goal.reached(predict(model, x_adv))
        if on_progress:
            on_progress(len(x), len(x))
        return finish(model, x, x_adv, goal, claimed, 2 * once, 0 * once)


class Fog(Method):
    """Settings of the toy attack."""

    title: ClassVar[str] = "Toy fog"
    help: ClassVar[str] = "Everything becomes grey."
    paper: ClassVar[str] = "A test"
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    function: ClassVar[str] = f"{__name__}:fog"
    needs_eps: ClassVar[bool] = True
    fixed_cost: ClassVar[bool] = True
    name: Literal["toy_fog"] = "toy_fog"
    grey: float = Field(0.5, ge=0, le=1, title="Grey level", description="What every pixel moves to.")


def pooled(shape: tuple[int, int, int], outputs: int) -> nn.Module:
    """A toy network: the mean of each quarter of the image, and a dense layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * shape[0], outputs))


POOLED = specs.NetworkInfo(name="toy_pooled", title="Toy pooled", builder=f"{__name__}:pooled", relus=False)


def halves(root: Path, *, download: bool = False) -> tuple[Split, Split]:
    """A toy data set: which half of the image is brighter, the upper or the lower one."""
    numbers = torch.Generator().manual_seed(0)
    x = torch.randint(0, 100, (360, 1, 8, 8), generator=numbers, dtype=torch.uint8)
    y = torch.arange(360) % 2
    x[y == 0, :, :4] += 120
    x[y == 1, :, 4:] += 120
    return Split.of(x[:300], y[:300]), Split.of(x[300:], y[300:])


HALVES = specs.DatasetInfo(
    name="toy_halves",
    title="Toy halves",
    shape=(1, 8, 8),
    class_names=("upper", "lower"),
    train_size=300,
    test_size=60,
    reader=f"{__name__}:halves",
    fast_epochs=5,
)


@pytest.fixture
def registered() -> Iterator[None]:
    """The three are registered, and gone afterwards."""
    register(Fog)
    specs.register_network(POOLED)
    specs.register_dataset(HALVES)
    yield
    for registry, name in ((METHODS, "toy_fog"), (specs.NETWORKS, "toy_pooled"), (specs.DATASETS, "toy_halves")):
        del registry[name]


def call(capsys: Capture, *arguments: str) -> Any:
    """Run a command with --json and return what it printed."""
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


def help_of(capsys: Capture, *arguments: str) -> str:
    """What --help prints."""
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("registered")
def test_on_the_command_line(capsys: Capture) -> None:
    """Help lists all three; they are trained, attacked and swept by name, and the attack's setting is a flag."""
    text = help_of(capsys, "train")
    assert "toy_pooled}" in text
    assert "toy_halves,folder,file}" in text
    text = help_of(capsys, "attack", "--attack", "toy_fog")
    assert "toy_fog" in text
    assert "--grey GREY Grey level. What every pixel moves to. Default: 0.5." in text

    made = call(capsys, "train", "--dataset", "toy_halves", "--network", "toy_pooled")
    assert made["test_accuracy"] > 0.9
    model = made["model"]
    assert model.startswith("toy_halves-toy_pooled-standard-")
    small, large = (
        call(capsys, "attack", "--model", model, "--attack", "toy_fog", "--grey", "0.4", "--eps", eps, "--n", "20")
        for eps in ("0.01", "0.6")
    )
    assert (large["attack"], large["n"]) == ("toy_fog", 20)
    assert small["success_rate"] < large["success_rate"]
    rows = call(capsys, "sweep", "--model", model, "--attack", "toy_fog", "--eps", "0", "0.6", "--n", "40")
    assert rows[0]["accuracy"] > rows[1]["accuracy"]
    assert main(["train", "--network", "unknown"]) == 2
    assert "'preactresnet18' or 'toy_pooled', got 'unknown'" in capsys.readouterr().err


@pytest.mark.usefixtures("registered")
def test_in_a_form() -> None:
    """The attack's settings, the network and the data set are drawn, with their titles."""

    def script() -> None:
        import streamlit as st

        from core import specs
        from ui.form import controls

        st.session_state["attack"] = controls.method("page", ["fgsm", *list(specs.METHODS)[-1:]])
        st.session_state["network"] = controls.field("page", specs.TrainSpec, "network")
        st.session_state["dataset"] = controls.field("page", specs.DataSpec, "dataset")

    app = AppTest.from_function(script, default_timeout=300)
    app.query_params["page_attack"] = "toy_fog"
    app.run()
    assert not app.exception
    assert app.session_state["attack"] == {"name": "toy_fog", "grey": 0.5}
    assert app.get_by_key("page_toy_fog_grey").label == "Grey level"
    assert "Everything becomes grey." in app.caption[0].value
    assert app.selectbox(key="page_network").options[-1] == "Toy pooled"
    assert app.selectbox(key="page_dataset").options[-3:-1] == ["Toy halves", "Folder of images"]
    app.selectbox(key="page_network").select("toy_pooled").run()
    assert app.session_state["network"] == "toy_pooled"


@pytest.mark.usefixtures("registered")
def test_in_the_docs() -> None:
    """The reference pages have a row for each."""
    docs = pytest.importorskip("core.cli.docs")
    assert "Everything becomes grey." in docs.PAGES["attacks.md"]()
    assert "Grey level" in docs.PAGES["attacks.md"]()
    page = docs.PAGES["networks-and-data.md"]()
    assert "| `toy_pooled` | Toy pooled" in page
    assert "| `toy_halves` | Toy halves" in page


def test_the_toy_attack_keeps_the_contract() -> None:
    """It can be checked before it is registered."""
    check_attack(fog, eps=0.1)


@pytest.mark.usefixtures("registered")
def test_fields_take_names_dicts_and_instances() -> None:
    """As of any attack; the key is the same for all three, and JSON gives the spec back."""
    made = [specs.AttackSpec(model="m", attack=given, eps=0.1) for given in ("toy_fog", {"name": "toy_fog"}, Fog())]
    assert len({spec.key() for spec in made}) == 1
    assert specs.AttackSpec.model_validate_json(made[0].model_dump_json()) == made[0]
    with pytest.raises(ValidationError) as caught:
        specs.AttackSpec(model="m", attack={"name": "toy_fog", "grey": 2}, eps=0.1)
    assert specs.explain(caught.value) == "attack.toy_fog.grey: expected less than or equal to 1, got 2"


def test_what_is_not_registered_is_refused() -> None:
    """Before and after: nothing of the toys is left behind."""
    with pytest.raises(ValidationError, match="expected one of fgsm, pgd"):
        specs.AttackSpec(model="m", attack="toy_fog", eps=0.1)
    with pytest.raises(ValidationError, match="Input should be 'linear'"):
        specs.TrainSpec(network="toy_pooled")
    with pytest.raises(ValidationError, match="'digits', 'folder' or 'file'"):
        specs.DataSpec(dataset="toy_halves")


@pytest.mark.usefixtures("registered")
def test_a_name_that_is_taken_is_refused() -> None:
    """Of an attack, a recipe, a network, a data set; 'folder' is a data set too."""
    with pytest.raises(ValueError, match="name: expected one that is not taken, got 'toy_fog'"):
        register(Fog)
    with pytest.raises(ValueError, match="got 'pgd'"):
        specs.register_recipe(specs.PgdRecipe)
    with pytest.raises(ValueError, match="got 'lenet'"):
        specs.register_network(POOLED.model_copy(update={"name": "lenet"}))
    for name in ("mnist", "folder"):
        with pytest.raises(ValueError, match=f"got '{name}'"):
            specs.register_dataset(HALVES.model_copy(update={"name": name}))
    with pytest.raises(ValueError, match=r"name: expected a field with a default such as 'pgd' on Method, got None"):
        register(Method)


@pytest.mark.parametrize("where", ["nowhere.at_all:fog", f"{__name__}:no_such_name", "a sentence"])
def test_a_function_that_cannot_be_found_is_named(where: str) -> None:
    """An attack's, a network's: which one, where it was said to be, and why it is not there."""

    class Lost(Fog):
        function: ClassVar[str] = where

    with pytest.raises(ValueError, match=rf"function: expected where a function of Lost is, .* got '{where}' \("):
        function_of(Lost)
    specs.register_network(POOLED.model_copy(update={"builder": where}))
    try:
        with pytest.raises(ValueError, match="builder: expected where a function of toy_pooled is"):
            build("toy_pooled", (1, 8, 8), 2)
    finally:
        del specs.NETWORKS["toy_pooled"]


def test_a_function_that_lacks_a_setting_is_refused() -> None:
    """So is one that lacks what the spec says that it takes."""

    class More(Fog):
        thickness: int = 3
        random: ClassVar[bool] = True

    with pytest.raises(ValueError, match=r"every argument that More promises, got none for thickness, streams"):
        function_of(More)


@pytest.mark.usefixtures("registered")
def test_run_method_finds_the_function() -> None:
    """In Python too; a method that is not registered is refused."""
    torch.manual_seed(0)
    model, x = build("toy_pooled", (1, 8, 8), 2), torch.rand(6, 1, 8, 8)
    y = model(x).argmax(1)
    made = run_method(model, x, y, Fog(grey=0.25), eps=0.1)
    assert torch.equal(made.x_adv, fog(model, x, y, eps=0.1, grey=0.25).x_adv)

    class Unknown(Fog):
        pass

    with pytest.raises(ValueError, match=r"method: expected one of fgsm, .*toy_fog, got Unknown"):
        run_method(model, x, y, Unknown(), eps=0.1)
