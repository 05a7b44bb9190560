"""Widgets drawn from the fields of a spec: label is the field's title, help its description, bounds its bounds.

A widget's key is `<page>_<name>` and its value is bound to the address, so that a page's address reproduces its
settings, values survive page switches, and a bad value in an address falls back to the default.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import streamlit as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from streamlit.errors import StreamlitAPIException

from core import specs

S = TypeVar("S", bound=specs.Spec)

SLIDER_CLASSES = 13
"""Most choices that a slider over classes has."""
KEEP: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}
"""What every widget that belongs to a page's settings is given."""

CHOICES: dict[str, str] = {
    **{name: info.title for name, info in specs.DATASETS.items()},
    "folder": "Folder of images",
    **specs.NETWORKS,
    **{name: method.title for name, method in specs.METHODS.items()},
    "one_cycle": "one-cycle",
    "default": "PyTorch's",
    "gaussian": "Gaussian",
    "sgd": "SGD",
    "adam": "Adam",
    "linf": "ℓ∞",
    "l2": "ℓ2",
    "l1": "ℓ1",
    "l0": "ℓ0",
    "ce": "cross-entropy",
    "mse": "squared error",
    "crop_flip": "crop, flip",
    "crop_flip_cutout": "and cutout",
}
"""How the names in specs are written for people; a name that is not here is shown as it is."""


def say(name: object) -> str:
    """A spec's name as people read it."""
    return CHOICES.get(str(name), str(name))


def grey_levels(eps: float) -> str:
    """ε as a count of grey levels, such as `25.5/255`."""
    return f"{eps * 255:.4g}/255"


def both(eps: float) -> str:
    """ε in both units, such as `0.1 (25.5/255)`; above 1, where it is no change of a pixel, the number alone."""
    return f"{eps:.4g} ({grey_levels(eps)})" if eps <= 1 else f"{eps:.4g}"


def seed(key: str, options: Sequence[Any], text: Callable[[Any], str] = str, *, many: bool = False) -> None:
    """Let a link name an option by its plain name (`?train_network=mlp`). Call it just before the widget.

    Streamlit itself knows options in an address by the `text` that the widget shows, so the address is rewritten where
    it may be. With `many`, for a widget of several choices, the parameter may be repeated (`?a=x&a=y`).
    """
    by_name = {str(option): option for option in options}
    given = st.query_params.get_all(key)
    named = [by_name[name] for name in given if name in by_name]
    shown = {text(option) for option in options}
    # what the widget shows comes first: among the classes 1 and 7, "1" is the first and not number 1
    if not named or shown.issuperset(given):
        st.session_state.pop(f"{key}_followed", None)
        return
    if st.session_state.get(f"{key}_followed") == given:
        return  # the same address as at the last run: something else may have been chosen since
    st.session_state[f"{key}_followed"] = given
    st.session_state[key] = named if many else named[0]
    with contextlib.suppress(StreamlitAPIException):  # the widget is bound already: it writes the address itself
        st.query_params[key] = [text(option) for option in named] if many else text(named[0])


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
        options: instead of the choices of a Literal.
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
        "key": f"{page}_{key or name}",
        "disabled": disabled,
        **KEEP,
    }
    if on_change is not None:
        common["on_change"] = on_change
    kind, optional = _kind(info.annotation)
    if options is not None or get_origin(kind) is Literal:
        return _choice(list(options if options is not None else get_args(kind)), start, common)
    if kind is bool:
        return st.toggle(value=bool(start), **common)
    if kind is int:
        low, high = _bounds(info)
        start = None if optional and start is None else int(start)
        return st.number_input(value=start, min_value=_whole(low), max_value=_whole(high), step=1, **common)
    if kind is float:
        return _real(info, start, common)
    if get_origin(kind) is tuple:
        return _numbers(start, optional, common)
    if kind is str:
        return st.text_input(value=start or "", **common) or (None if optional else "")
    raise TypeError(f"{spec.__name__}.{name}: no widget for {info.annotation}")


def fields(
    page: str,
    spec: type[specs.Spec],
    names: Iterable[str],
    *,
    columns: int = 3,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Draw several fields in columns, row by row; returns name → value. `defaults` replace the fields' own."""
    start = defaults or {}
    return _in_columns(list(names), columns, lambda name: field(page, spec, name, default=start.get(name)))


def recipe_choice(page: str) -> dict[str, Any]:
    """Draw the choice of a training recipe and what it is: `{"name": …}`. Do not call this inside a form."""
    names = list(specs.RECIPES)
    name = _choice(names, names[0], {"label": "Recipe", "key": f"{page}_recipe", **KEEP}, say=recipe_title)
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

    return _in_columns(wanted, 3, draw)


def typed_eps(page: str, spec: type[specs.Spec], name: str, *, key: str) -> float | str:
    """A box for one ε, typed as 0.1 or as 8/255, and its grey levels; what cannot be read stays as text.

    The text is refused by the spec, in its own words.
    """
    info = spec.model_fields[name]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        text = st.text_input(
            info.title or name,
            value=eps_text(info.get_default()),
            key=f"{page}_{key}",
            help=f"{info.description} 0.1 and 8/255 are both understood.",
            **KEEP,
        )
        try:
            value = _ratio(text)
        except (ValueError, ZeroDivisionError):
            return text
        if 0 <= value <= 1:
            st.caption(f"= {grey_levels(value)}", width="content")
    return value


def eps_text(value: float) -> str:
    """ε as one would type it, exactly: `0.3`, or `8/255` where that is shorter."""
    plain = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    levels = round(value * 255)
    return f"{levels}/255" if levels / 255 == value and len(plain) > len(f"{levels}/255") else plain


def recipe_title(name: object) -> str:
    """A recipe's name as people read it; some attacks have the same name."""
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
    name = (
        _choice(list(names), names[0], {"label": label, "key": f"{page}_attack", **KEEP})
        if len(names) > 1
        else names[0]
    )
    cls = specs.METHODS[name]
    st.caption(f"{cls.help} *{cls.paper}.*")
    return {"name": name, **method_settings(page, name, skip=skip, columns=columns)}


def method_settings(page: str, name: str, *, skip: Sequence[str] = (), columns: int = 3) -> dict[str, Any]:
    """Draw the settings of one method (keys `<page>_<method>_<setting>`); may be called inside a form."""
    cls = specs.METHODS[name]
    wanted = [setting for setting in cls.model_fields if setting != "name" and setting not in skip]
    return _in_columns(wanted, columns, lambda setting: field(page, cls, setting, key=f"{name}_{setting}"))


def eps(
    page: str, *, name: str = "eps", label: str = "ε", default: float = 0.1, high: float = 1.0, step: float = 0.005
) -> float:
    """A slider for ε in [0, high]; its value is written in both units, also while a form waits to be submitted."""
    options = [round(k * step, 6) for k in range(round(high / step) + 1)]
    seed(f"{page}_{name}", options, both)
    return float(
        st.select_slider(
            label,
            options,
            value=min(options, key=lambda option: abs(option - default)),
            format_func=both,
            key=f"{page}_{name}",
            help="Largest change of a pixel, in units of its range [0, 1], and in grey levels.",
            **KEEP,
        )
    )


def eps_ladder(page: str, *, name: str = "eps", default: Sequence[float] = specs.DEFAULT_EPS) -> list[float] | None:
    """A text box for several ε, separated by spaces or commas (`8/255` is understood); None if it cannot be read."""
    text = st.text_input(
        "ε",
        value=" ".join(f"{value:g}" for value in default),
        key=f"{page}_{name}",
        help="Budgets, separated by spaces or commas; 8/255 is understood. In ℓ∞ from 0 to 1.",
        **KEEP,
    )
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        values = [_ratio(word) for word in words]
    except (ValueError, ZeroDivisionError):
        st.error(f"ε: expected numbers such as 0.1 or 8/255, got {text!r}.", icon=":material/error:")
        return None
    if values and max(values) <= 1:
        st.caption("= " + ", ".join(f"{value * 255:.4g}" for value in values) + " /255")
    return values


def a_class(
    page: str,
    class_names: Sequence[str],
    *,
    name: str,
    label: str,
    extra: Mapping[str, str] | None = None,
    default: Any = None,
    slider: bool = True,
) -> Any:
    """A slider over the classes; `extra` puts choices such as `{"any": "any wrong class"}` before them.

    A selectbox instead where there are too many classes to slide over, or where `slider` is off.
    """
    extra = dict(extra or {})
    options: list[Any] = [*extra, *range(len(class_names))]

    def text(option: Any) -> str:
        return extra[option] if option in extra else class_text(option, class_names)

    start = options.index(default) if default in options else 0
    key = f"{page}_{name}"
    seed(key, options, text)
    if slider and len(options) <= SLIDER_CLASSES:
        return st.select_slider(label, options, value=options[start], format_func=text, key=key, **KEEP)
    return st.selectbox(label, options, index=start, format_func=text, key=key, **KEEP)


def class_text(number: int, class_names: Sequence[str]) -> str:
    """A class as people read it: its name, and its number where the name is a word."""
    name = class_names[number]
    return name if name.isdigit() else f"{number} · {name}"


def build(spec: type[S], **values: Any) -> S | None:
    """The spec with these values, or None with one plain sentence on the page; the widgets keep their values."""
    try:
        return spec(**values)
    except ValidationError as error:
        refused = specs.explain(error).splitlines()
        text = refused[0] + "." if len(refused) == 1 else "\n".join(f"- {line}" for line in refused)
        st.error(f"These settings cannot be run. {text}", icon=":material/error:")
        return None


def _in_columns(names: list[str], columns: int, draw: Callable[[str], Any]) -> dict[str, Any]:
    """Draw one widget a name, row by row; returns name → value."""
    values: dict[str, Any] = {}
    for start in range(0, len(names), columns):
        row = st.columns(columns, vertical_alignment="bottom")
        for column, name in zip(row, names[start : start + columns], strict=False):
            with column:
                values[name] = draw(name)
    return values


def _choice(options: list[Any], start: Any, common: dict[str, Any], say: Callable[[Any], str] = say) -> Any:
    """All options visible where they are few and short, else a list."""
    seed(common["key"], options, say)
    if len(options) <= 4 and sum(len(say(option)) for option in options) <= 32:
        return st.segmented_control(options=options, default=start, format_func=say, required=True, **common)
    return st.selectbox(options=options, index=options.index(start), format_func=say, **common)


def _real(info: FieldInfo, start: float | None, common: dict[str, Any]) -> float | None:
    """A slider where the range is short and a hundredth of it fine enough for the default, else a number."""
    low, high = _bounds(info)
    if start is not None and low is not None and high is not None and high - low <= 3:
        step = (high - low) / 100
        if start >= step and abs(start / step - round(start / step)) < 1e-6:
            return float(
                st.slider(min_value=float(low), max_value=float(high), value=float(start), step=step, **common)
            )
    value = st.number_input(
        value=None if start is None else float(start),
        min_value=None if low is None else float(low),
        max_value=None if high is None else float(high),
        step=10.0 ** _magnitude(start if start else 0.1),
        format="%.6g",
        placeholder="none" if start is None else None,
        **common,
    )
    return None if value is None else float(value)


def _numbers(start: Sequence[float] | None, optional: bool, common: dict[str, Any]) -> tuple[Any, ...] | None:
    """A box for several numbers; what cannot be read stays as text, which the spec refuses in its own words."""
    words = st.text_input(value=" ".join(f"{value:g}" for value in start or ()), **common).replace(",", " ").split()
    if optional and not words:
        return None
    try:
        return tuple(_ratio(word) for word in words)
    except (ValueError, ZeroDivisionError):
        return tuple(words)


def _magnitude(value: float) -> int:
    """Exponent of the step that changes the leading digit of `value`."""
    return int(f"{abs(value):e}".split("e")[1])


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type without `| None` and `Annotated`, and whether None is allowed."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        if len(inner) == 1:
            return _kind(inner[0])[0], True
    if hasattr(annotation, "__metadata__"):
        return _kind(get_args(annotation)[0])
    return annotation, False


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Lower and upper bound of a field; an open bound is shown as a closed one, and refused by the spec."""
    found: dict[str, float] = {}
    for constraint in info.metadata:
        for side in ("ge", "gt", "le", "lt"):
            if getattr(constraint, side, None) is not None:
                found[side] = getattr(constraint, side)
    return found.get("ge", found.get("gt")), found.get("le", found.get("lt"))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _ratio(word: str) -> float:
    top, _, bottom = word.partition("/")
    return float(top) / float(bottom) if bottom else float(top)
