"""Widgets drawn from the fields of a spec, with the field's title, description and bounds.

A widget's key is `<page>_<name>` and its value is bound to the address, so that a page's address reproduces its
settings, values survive page switches, and a bad value in an address falls back to the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

import streamlit as st
from pydantic import ValidationError

from core import epsilon, specs
from ui.form import bound, widgets
from ui.form.select import select
from ui.text import both, class_text, eps_text, grey_levels, literal, say

S = TypeVar("S", bound=specs.Spec)

SLIDER_CLASSES = 13
"""Most choices that a slider over classes has."""


def field(
    page: str,
    spec: type[specs.Spec],
    name: str,
    *,
    key: str | None = None,
    default: Any = None,
    label: str | None = None,
    options: Sequence[Any] | None = None,
    disabled: bool = False,
    on_change: Callable[[], None] | None = None,
) -> Any:
    """Draw the widget for one field of `spec` and return its value.

    Args:
        page: url path of the page; the first half of the widget's key.
        spec: the class that has the field.
        name: the field.
        key: the second half of the key, if `<page>_<name>` is taken.
        default: instead of the field's own default.
        label: instead of the field's title.
        options: instead of the choices of a Literal or of a registry.
        disabled: shown, but not to be changed.
        on_change: called on a change; not inside a form.

    Returns:
        The widget's value: not yet validated, so hand it to `build`.

    Raises:
        TypeError: a kind of field that has no widget.
    """
    info = spec.model_fields[name]
    start = info.get_default(call_default_factory=True) if default is None else default
    common: dict[str, Any] = {
        "label": label or info.title or name,
        "help": info.description,
        "disabled": disabled,
        "on_change": on_change,
    }
    kind, optional = widgets.kind(info.annotation)
    offered = options or specs.choices_of(info) or (get_args(kind) if get_origin(kind) is Literal else ())
    if offered:
        return select(page, key or name, options=list(offered), text=say, default=start, **common)
    common |= {"key": f"{page}_{key or name}"}
    if kind is bool:
        return bound.toggle(value=bool(start), **common)
    if kind is int:
        low, high = widgets.bounds(info)
        start = None if optional and start is None else int(start)
        ends: dict[str, Any] = {"min_value": widgets.whole(low), "max_value": widgets.whole(high)}
        return bound.number_input(whole=True, value=start, step=1, **ends, **common)
    if kind is float:
        return widgets.real(info, start, common)
    if get_origin(kind) is tuple:
        return widgets.numbers(start, optional, common)
    if kind is str:
        return bound.text_input(value=start or "", **common) or (None if optional else "")
    raise TypeError(f"{spec.__name__}.{name}: no widget for {info.annotation}")


def fields(
    page: str,
    spec: type[specs.Spec],
    names: Iterable[str],
    *,
    columns: int = 3,
    defaults: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """Draw several fields in columns, row by row; returns name → value.

    `defaults` replace the fields' own; `prefix` tells the keys from those of another form on the page.
    """
    start = defaults or {}

    def draw(name: str) -> Any:
        return field(page, spec, name, key=f"{prefix}{name}", default=start.get(name))

    return widgets.in_columns(list(names), columns, draw)


def recipe_choice(page: str) -> dict[str, Any]:
    """Draw the choice of a training recipe and what it is: `{"name": …}`. Do not call this inside a form."""
    name = select(page, "recipe", "Recipe", list(specs.RECIPES), text=recipe_title)
    cls = specs.RECIPES[name]
    st.caption(f"{cls.help} *{cls.paper}.*" if cls.paper else cls.help)
    return {"name": name}


def recipe_settings(page: str, name: str) -> dict[str, Any]:
    """Draw the settings of one recipe (keys `<page>_<recipe>_<setting>`); may be called inside a form."""
    cls = specs.RECIPES[name]
    wanted = [setting for setting in cls.model_fields if setting != "name"]

    def draw(setting: str) -> Any:
        key = f"{name}_{setting}"
        return typed_eps(page, cls, setting, key=key) if setting == "eps" else field(page, cls, setting, key=key)

    return widgets.in_columns(wanted, 3, draw)


def typed_eps(page: str, spec: type[specs.Spec], name: str, *, key: str) -> float | str:
    """A box for one ε, typed as 0.1 or as 8/255, with its grey levels; text that is no number is returned as it is.

    The text is refused by the spec, in its own words.
    """
    info = spec.model_fields[name]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        text = bound.text_input(
            info.title or name,
            value=eps_text(info.get_default()),
            key=f"{page}_{key}",
            help=f"{info.description} 0.1 and 8/255 are both understood.",
        )
        try:
            value: float = epsilon.parse(text)
        except ValueError:
            return text
        if 0 <= value <= 1:
            st.caption(f"= {grey_levels(value)}", width="content")
    return value


def recipe_title(name: object) -> str:
    """The title of a recipe; `say` would give that of the attack of the same name."""
    return specs.RECIPES[str(name)].title


def method(
    page: str, names: Sequence[str], *, label: str = "Attack", skip: Sequence[str] = (), columns: int = 3
) -> dict[str, Any]:
    """Draw the choice of an attack method and the settings of the one chosen. Do not call this inside a form.

    Args:
        page: url path of the page.
        names: methods on offer, by registry name.
        label: of the choice.
        skip: settings that the page draws itself or leaves at their defaults.
        columns: settings a row.

    Returns:
        What the `attack` field of a spec takes: `{"name": …, setting: value, …}`.
    """
    name = select(page, "attack", label, names, text=say) if len(names) > 1 else names[0]
    cls = specs.METHODS[name]
    st.caption(f"{cls.help} *{cls.paper}.*")
    return {"name": name, **method_settings(page, name, skip=skip, columns=columns)}


def method_settings(page: str, name: str, *, skip: Sequence[str] = (), columns: int = 3) -> dict[str, Any]:
    """Draw the settings of one method (keys `<page>_<method>_<setting>`); may be called inside a form."""
    cls = specs.METHODS[name]
    wanted = [setting for setting in cls.model_fields if setting != "name" and setting not in skip]
    return widgets.in_columns(wanted, columns, lambda setting: field(page, cls, setting, key=f"{name}_{setting}"))


def eps(
    page: str, *, name: str = "eps", label: str = "ε", default: float = 0.1, high: float = 1.0, step: float = 0.005
) -> float:
    """A slider for ε in [0, high]; its value is written in both units, also while a form waits to be submitted."""
    options = [round(k * step, 6) for k in range(round(high / step) + 1)]
    return select(
        page,
        name,
        label,
        options,
        text=both,
        default=min(options, key=lambda option: abs(option - default)),
        kind="slider",
        read=widgets.nearest(options),
        help="Largest change of a pixel, in units of its range [0, 1], and in grey levels.",
    )


USUAL_EPS = " ".join(f"{value:g}" for value in specs.DEFAULT_EPS)
"""The budgets of the specs, as people write them."""


def eps_ladder(page: str, *, name: str = "eps", default: str = USUAL_EPS) -> list[float] | None:
    """A text box for several ε as people write them (see `core.epsilon.words`); None if it cannot be read.

    Another `default`, as for other images, takes the place of the one before, and of nothing that somebody wrote.
    """
    key, was = f"{page}_{name}", f"_{page}_{name}_default"
    if st.session_state.get(was, default) != default and st.session_state.get(key) == st.session_state[was]:
        st.session_state[key] = default
    st.session_state[was] = default
    text = bound.text_input(
        "Budgets ε",
        value=default,
        key=key,
        help="Separated by spaces, semicolons or commas. 0.05, .05, 0,05 and 8/255 are understood. In ℓ∞ from 0 to 1.",
    )
    try:
        values = epsilon.several(text)
    except ValueError:
        st.error(f"ε: expected numbers such as 0.1 or 8/255, got “{literal(text)}”.", icon=":material/error:")
        return None
    if values and max(values) <= 1:
        st.caption("= " + ", ".join(f"{value * 255:.4g}" for value in values) + " /255")
    elif values:
        st.caption("= " + ", ".join(f"{value:g}" for value in values))
    return values


def a_class(
    page: str,
    class_names: Sequence[str],
    *,
    name: str,
    label: str,
    extra: Mapping[str, str] | None = None,
    default: Any = None,
    without: int | None = None,
    slider: bool = True,
    help: str | None = None,
) -> Any:
    """Draw the choice of one class: a slider, or a list where there are too many classes for it or `slider` is off.

    `extra` puts choices such as `{"any": "any wrong class"}` before the classes, of which `without` is left out.
    """
    extra = dict(extra or {})
    options: list[Any] = [*extra, *(k for k in range(len(class_names)) if k != without)]

    def text(option: Any) -> str:
        return extra[option] if option in extra else class_text(option, class_names)

    kind: Literal["slider", "list"] = "slider" if slider and len(options) <= SLIDER_CLASSES else "list"
    return select(page, name, label, options, text=text, default=default, kind=kind, help=help)


def build(spec: type[S], **values: Any) -> S | None:
    """The spec with these values; None, with an explanation on the page, if they are invalid."""
    try:
        return spec(**values)
    except ValidationError as error:
        refused = [literal(line) for line in specs.explain(error).splitlines()]
        text = refused[0] + "." if len(refused) == 1 else "\n".join(f"- {line}" for line in refused)
        st.error(f"These settings cannot be run. {text}", icon=":material/error:")
        return None
