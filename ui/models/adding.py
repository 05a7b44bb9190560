"""The form of the page Add a model: the file, what it is for, what is known of it already, and the import itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import streamlit as st

from core import access, epsilon, specs
from core.evaluation.imported.findings import REFUSED
from core.jobs import limits, queue
from core.specs.importing import label_of
from core.storage import store, uploads
from ui.app import jobs, sources, visitors
from ui.form import bound, controls, data_set, widgets
from ui.form.select import KEEP, select
from ui.models import architectures, found
from ui.text import literal, say

PAGE = "add_model"
ENDINGS = ("onnx", "safetensors", "pt", "pth")
UNKNOWN = "found out"
"""How a setting is written that the import finds out."""
CHOSEN = ("channels", "layout", "outputs")
TYPED = {"mean": UNKNOWN, "std": UNKNOWN, "classes": "the data set's order"}
SIZES = ("resize", "crop")
FOLDED = ("label", *TYPED, *CHOSEN, *SIZES)
"""Settings of an ImportSpec that are folded away."""
_ASKED, _KEPT, _COUNT = f"{PAGE}_asked", f"{PAGE}_kept", f"{PAGE}_uploads"
_NONE = "0" * 64


class File(NamedTuple):
    """A file that is to be imported: its name, its size in bytes, and its digest where the store keeps it already."""

    name: str
    size: int
    digest: str = ""

    @property
    def onnx(self) -> bool:
        """Whether it holds a graph; else it holds weights."""
        return self.name.lower().endswith(".onnx")


def choose_file() -> File | None:
    """Draw the box for the upload, or the file that is kept from an earlier try."""
    kept: File | None = st.session_state.get(_KEPT)
    if kept is not None and not uploads.where(kept.digest, store.default_root()).is_file():
        kept = None  # it was imported, or removed
    if kept is not None:
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            st.markdown(f":material/draft: **{kept.name}**, {_size(kept.size)}")
            st.button("Another file", key=f"{PAGE}_another", on_click=drop, type="tertiary", icon=":material/close:")
        return kept
    largest = int(st.get_option("server.maxUploadSize"))  # it is in the server's memory until it is imported
    given = st.file_uploader(
        "Model file",
        type=list(ENDINGS),
        key=_uploader(),
        max_upload_size=largest,
        help="An ONNX graph in one file, or weights: safetensors, or a PyTorch checkpoint of tensors (.pt, .pth). "
        f"Up to {largest:,} MB. No code in the file is run. Larger files, and what needs code, such as a pickled "
        "module, are for the command line: `python -m core import`.",
    )
    return None if given is None else File(given.name, given.size)


def drop() -> None:
    """Forget the file and what was asked of it."""
    kept: File | None = st.session_state.pop(_KEPT, None)
    st.session_state.pop(_ASKED, None)
    if kept is not None and not any(job.live for job in _imports(kept.digest)):
        uploads.forget(kept.digest, store.default_root())


def choose_architecture(file: File | None) -> str:
    """Draw the choice of the architecture, which weights need and a graph does not."""
    graph = file is not None and file.onnx
    key = f"{PAGE}_architecture"
    names = architectures.names()
    label = "Architecture of the weights"
    bound.check_text(key, label, longest=200)
    held = st.session_state.get(key) or st.query_params.get(key)
    if held and held not in names:
        names.append(str(held))
    chosen = st.selectbox(
        label,
        names,
        index=None,
        format_func=architectures.title,
        placeholder="not needed: the graph says it" if graph else "search, or type such as timm:resnet18",
        help="Only for weights. Networks of this program, `torchvision:NAME`, or `timm:NAME` where timm is installed. "
        "An ONNX file holds its architecture itself.",
        key=key,
        disabled=graph,
        accept_new_options=True,
        **KEEP,
    )
    return "" if graph else (chosen or "")


def settings() -> dict[str, Any]:
    """Draw what may be known of the model already; returns arguments of an ImportSpec. What is left alone is None."""
    st.caption("What you leave alone is found out from the data set's images. Set what you know, or what was in doubt.")

    def draw(name: str) -> Any:
        info = specs.ImportSpec.model_fields[name]
        if name in CHOSEN:
            options = [UNKNOWN, *get_args(widgets.kind(info.annotation)[0])]
            picked = select(PAGE, name, info.title or name, options, text=say, help=info.description, kind="list")
            return None if picked == UNKNOWN else picked
        if name in SIZES:
            return controls.field(PAGE, specs.ImportSpec, name)
        text = bound.text_input(
            info.title or name,
            key=f"{PAGE}_{name}",
            placeholder=TYPED[name],
            help=info.description,
        )
        return tuple(epsilon.words(text)) or None

    return widgets.in_columns([*TYPED, *CHOSEN, *SIZES], 3, draw)


def choose_name(file: File | None) -> str:
    """Draw the box for the model's name; empty: made from the file's."""
    start = label_of(file.name) if file is not None else "made from the file's name"
    info = specs.ImportSpec.model_fields["label"]
    text = bound.text_input(
        info.title or "Name", key=f"{PAGE}_label", placeholder=start, help=info.description, max_chars=40
    )
    return text.strip() or (label_of(file.name) if file is not None else "model")


def draft(file: File, data: dict[str, Any], architecture: str, label: str, known: dict[str, Any]) -> Any:
    """The import as it would be asked for now; None, with the reason on the page, where something is missing."""
    if not file.onnx and not architecture:
        st.info("Weights need their architecture: choose it above.", icon=":material/info:")
        return None
    data_spec = controls.build(specs.DataSpec, **data)
    if data_spec is None:
        return None
    made = controls.build(
        specs.ImportSpec,
        data=data_spec,
        label=label,
        route="onnx" if file.onnx else "weights",
        digest=file.digest or _NONE,
        architecture=architecture,
        **known,
    )
    return sources.as_it_is(made) if made is not None and made.data.path is not None else made


def start(file: File, spec: specs.ImportSpec) -> None:
    """Put the upload into the store's waiting room, let go of its bytes, and start the import."""
    if not file.digest:
        given = st.session_state.get(_uploader())
        if given is None:  # taken away in this moment
            return
        try:
            visitors.check_room()  # first, so that what is refused takes no room
            limits.check(spec, store.default_root())
            digest = uploads.keep(given.getvalue(), store.default_root())
        except (ValueError, OSError) as error:
            st.error(f"The file was not taken: {literal(error)}", icon=":material/error:")
            return
        spec, file = spec.model_copy(update={"digest": digest}), file._replace(digest=digest)
        st.session_state[_COUNT] = st.session_state.get(_COUNT, 0) + 1  # the old box, with its bytes, is gone
    st.session_state[_KEPT], st.session_state[_ASKED] = file, spec
    jobs.start(spec)


def asked() -> specs.ImportSpec | None:
    """The import that this visitor has asked for and whose end was not seen yet."""
    spec: specs.ImportSpec | None = st.session_state.get(_ASKED)
    return spec


def finished(model: store.Artifact) -> None:
    """Choose the model that was just imported, and let go of its file."""
    kept: File | None = st.session_state.pop(_KEPT, None)
    st.session_state.pop(_ASKED, None)
    if kept is not None:  # the job dropped it, unless the model was there already
        uploads.forget(kept.digest, store.default_root())
    st.session_state[f"{PAGE}_model"] = model.id


def follow() -> None:
    """Draw the import that runs, or how it ended without a model and which setting would change that."""
    spec = asked()
    if spec is None:
        return
    job = jobs.panel(PAGE, spec)
    if job is None:  # dismissed
        st.session_state.pop(_ASKED, None)
    elif job.state == "failed":
        refused_for(access.without_places(job.message))


def refused_for(message: str) -> None:
    """Draw why an import was refused, and what to set; what the examination would set is filled in by a button."""
    name, (_, examined, why) = refused_by(message), message.partition(REFUSED)
    kept = "The file is still here, and so are the settings."
    if examined:
        st.write(why.strip())
    if name:
        st.caption(f"Change **{title_of(name)}** and press Import again. {kept}")
    elif examined:
        st.caption(f"Change the settings, or the data set, and press Import again. {kept}")
    for setting, text, numbers in found.advised(message):
        st.button(
            f"Set {title_of(setting)}: {text}",
            icon=":material/edit:",
            key=f"{PAGE}_advised_{setting}",
            on_click=_set,
            args=({setting: numbers},),
            help="Fills in the setting. Nothing is imported before you press Import.",
        )


def running() -> bool:
    """Whether the import that was asked for is on its way."""
    spec = asked()
    return spec is not None and jobs.is_live(spec)


def refused() -> str:
    """The setting that the last import was refused for; "" where there is none."""
    spec = asked()
    job = None if spec is None else jobs.of(spec)
    return refused_by(access.without_places(job.message)) if job is not None and job.state == "failed" else ""


def refused_by(message: str) -> str:
    """The setting that a refusal names first, such as `outputs`; "" where it names none of this page's."""
    named = re.match(r"(?:[A-Za-z_.]+: )?([a-z]+)[.:]", message)
    return named[1] if named and named[1] in specs.ImportSpec.model_fields and named[1] != "digest" else ""


def title_of(name: str) -> str:
    """A setting as the page writes it."""
    return str(specs.ImportSpec.model_fields[name].title or name.title()) if name != "data" else "Data set"


def fill(model: store.Artifact, known: dict[str, Any]) -> None:
    """Put another reading into the settings, with the model's own file, as a button's answer."""
    spec = sources.model_spec(model)
    assert isinstance(spec, specs.ImportSpec)
    name = "model.onnx" if spec.route == "onnx" else "weights.safetensors"
    contents = (model.folder / name).read_bytes()
    file = File(f"{spec.label}.{name.rsplit('.', 1)[1]}", len(contents), uploads.keep(contents, store.default_root()))
    st.session_state[_KEPT] = file
    st.session_state.pop(_ASKED, None)
    state: dict[str, Any] = {"label": f"{spec.label[:37]}-2", "dataset": spec.data.dataset}
    if spec.architecture:
        state["architecture"] = spec.architecture
    for setting, value in state.items():
        st.session_state[f"{PAGE}_{setting}"] = value
    _set({name: getattr(spec, name) for name in (*TYPED, *CHOSEN, *SIZES)} | known)


def _set(known: Mapping[str, Any]) -> None:
    """Write settings of an ImportSpec into their widgets."""
    for setting, value in known.items():
        written = value
        if setting in TYPED:
            written = " ".join(f"{number:.6g}" for number in value or ())
        elif setting in CHOSEN:
            written = value or UNKNOWN
        st.session_state[f"{PAGE}_{setting}"] = written


def _imports(digest: str) -> list[queue.Job]:
    known = queue.jobs(store.default_root())
    return [job for job in known if isinstance(job.task, specs.ImportSpec) and job.task.digest == digest]


def _uploader() -> str:
    return f"{PAGE}_file_{st.session_state.get(_COUNT, 0)}"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def data_choice() -> dict[str, Any]:
    """Draw the choice of the data set and what it needs; returns arguments of a DataSpec."""
    name = data_set.choose(PAGE)
    if name in specs.OWN:
        return {"dataset": name, **data_set.own(PAGE, name)}
    if not sources.present(name):
        data_set.absent(name, "the import")
    return {"dataset": name}
