"""The playground: every attack and every kind of image, addresses good and bad, the time limit."""

from __future__ import annotations

import importlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from core import specs
from core.data import framing
from core.storage import store
from ui.app import warm
from ui.playground import address, answers, attacks, drawing, ladders, opening, packs, uploads, verdicts
from ui.playground import stage as stage_module
from ui.playground.picture import Picture

if TYPE_CHECKING:
    from tests.pages.conftest import Lab

PROJECT = Path(__file__).resolve().parents[2]
DIGITS = {"data": {"dataset": "digits28"}}


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    importlib.import_module("torch")  # the page does not wait for it
    answers.forget()


def planted(lab: Lab, **fields: Any) -> store.Artifact:
    """A linear model on the digits that knows them: its weights are the classes' mean images."""
    ink, y = framing.levels()
    flat = np.stack([framing.framed(one, 16) for one in ink[:400]]).reshape(400, -1) / 255
    means = np.stack([flat[y[:400] == k].mean(0) for k in range(10)])
    weights = {"2.weight": (4 * means).astype(np.float32), "2.bias": (-2 * (means**2).sum(1)).astype(np.float32)}
    weights |= {"0.mean": np.zeros((1, 1, 1), np.float32), "0.factor": np.ones((1, 1, 1), np.float32)}
    return lab.model(**{**DIGITS, "weights": weights, "labels": y[:360], "accuracy": 1.0, **fields})


def opened(lab: Lab, **query: str) -> AppTest:
    """The dashboard as its root opens it, with these query parameters; no exception allowed."""
    app = AppTest.from_file(str(PROJECT / "dashboard.py"), default_timeout=300)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception[0].value
    return app


def stage(app: AppTest) -> dict[str, Any]:
    """What the browser is sent for the stage."""
    found: dict[str, Any] = next(data for data in components(app) if "stops" in data)
    return found


def components(app: AppTest) -> list[dict[str, Any]]:
    """What the browser is sent for each component of our own."""
    return [json.loads(element.proto.json) for element in app.get("bidi_component")]


def test_it_opens_with_an_attacked_image(lab: Lab) -> None:
    """Image, adversarial image, probabilities and a verdict for the model and for the one beside it."""
    model, other = planted(lab), planted(lab, seed=1, recipe={"name": "pgd"})
    data = stage(opened(lab, playground_model=model.id))
    assert [side["id"] for side in data["sides"]] == [model.id, other.id]
    for side in data["sides"]:
        frame = side["frames"][f"any|{data['at']}"]
        assert len(frame["p"]) == 10
        assert frame["t"].endswith(".")
        assert sum(side["clean"]) == pytest.approx(1, abs=1e-3)
    assert data["stops"][data["at"]] == "0.1 (25.5/255)"


@pytest.mark.parametrize("name", attacks.OFFERS)
def test_every_attack_fools_a_weak_model(lab: Lab, name: str) -> None:
    """Each attack on offer, with its defaults, changes the class; those without ε draw no slider for it."""
    model = planted(lab)
    data = stage(opened(lab, playground_model=model.id, playground_attack=name, playground_eps="0.2"))
    assert bool(data["stops"]) == attacks.OFFERS[name].needs_eps
    frame = data["sides"][0]["frames"][f"any|{data['at']}"]
    assert frame["k"] == "fooled", frame["t"]
    assert "is now classified as" in frame["t"]
    assert frame["g"].startswith("×")


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_other_norms_have_their_own_slider(lab: Lab, norm: str) -> None:
    """In ℓ2 and ℓ1 ε is a length, and so is what is said of the change."""
    model = planted(lab)
    data = stage(opened(lab, playground_model=model.id, playground_norm=norm))
    assert tuple(data["values"]) == ladders.ladder(norm, (1, 28, 28))
    assert "length" in data["sides"][0]["frames"][f"any|{data['at']}"]["c"]


def test_the_address_sets_everything(lab: Lab) -> None:
    """ε as a number or in grey levels, the target, the image."""
    model = planted(lab)
    index = int(model.table("test")["index"].iloc[7])
    query = {"playground_eps": "0.3", "playground_target": "8", "playground_index": str(index)}
    data = stage(opened(lab, playground_model=model.id, **query))
    assert data["stops"][data["at"]].startswith("0.3 ")
    assert data["target"] == "8" or "8" not in dict(data["targets"])  # the image itself may be an 8
    assert f"test image {index}" in data["alt"]
    data = stage(opened(lab, playground_model=model.id, playground_eps="51/255"))
    assert data["stops"][data["at"]].startswith("0.2 ")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("eps", "much"),
        ("eps", "nan"),
        ("eps", "-1"),
        ("eps", "1/0"),
        ("target", "77"),
        ("target", "any other"),
        ("attack", "magic"),
        ("norm", "l7"),
        ("index", "999999"),
        ("source", "moon"),
        ("model", "no-such-model"),
        ("class", "44"),
    ],
)
def test_a_bad_value_in_the_address_is_the_default(lab: Lab, name: str, bad: str) -> None:
    """Whatever the address says, the page draws its stage."""
    planted(lab)
    data = stage(opened(lab, **{f"playground_{name}": bad}))
    assert data["target"] == "any"
    assert data["sides"][0]["frames"]


def test_next_image_and_class(lab: Lab) -> None:
    """Next goes to the following image; a class goes to an image of it."""
    planted(lab)
    app = opened(lab)
    first = stage(app)["alt"]
    app.button(key="playground_next").click().run()
    assert stage(app)["alt"] != first
    app.selectbox(key="playground_class").select(7).run()
    assert stage(app)["alt"].endswith("a 7")
    assert not app.exception


def test_a_drawing_in_the_address_is_attacked(lab: Lab) -> None:
    """The drawing is framed as MNIST frames its digits; a link carries it; the label is what the model sees."""
    planted(lab)
    cells = np.zeros((drawing.SIDE, drawing.SIDE), dtype=np.uint8)
    cells[8:48, 26:30] = 1
    packed = drawing.pack(cells)
    assert np.array_equal(drawing.unpacked(packed), cells)
    assert len(packed) < 200
    data = stage(opened(lab, playground_source="draw", playground_drawing=packed))
    assert data["alt"].startswith("The original: your drawing")
    assert data["w"] == data["h"] == 28


@pytest.mark.parametrize("bad", ["x", "%%%", "AAAA", drawing.pack(np.zeros((drawing.SIDE, drawing.SIDE)))])
def test_a_bad_drawing_is_said(lab: Lab, bad: str) -> None:
    """A drawing that cannot be read leaves an empty field, and a sentence."""
    planted(lab)
    app = opened(lab, playground_source="draw", playground_drawing=bad)
    assert any("drawing in this address" in info.value for info in app.info)


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """An encoded picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_an_upload_is_framed() -> None:
    """Dark ink on bright paper becomes a bright digit on black, 20 pixels high and in the middle; colours stay."""
    paper = np.full((300, 200, 3), 230, dtype=np.uint8)
    paper[40:220, 120:135] = 30
    for kind in ("PNG", "JPEG"):
        x = uploads.framed(png(paper, kind), (1, 28, 28), digits=True)
        assert x.shape == (1, 28, 28)
        assert x.dtype == np.float32
        inked = np.flatnonzero(x[0].sum(1) > 0.5)
        assert 19 <= len(inked) <= 21
        assert x[0, 14, 13:15].max() > 0.9
        assert x[0, 0, 0] == 0
    colour = uploads.framed(png(paper), (3, 32, 32), digits=False)
    assert colour.shape == (3, 32, 32)
    assert colour.max() <= 1


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"not a picture", png(np.full((9, 9), 255, np.uint8)), png(np.zeros((9, 9), np.uint8))[:40]),
        *(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"8BPS\x00\x01" + bytes(60)),
        *(png(np.zeros((10_000, 10_000), np.uint8)), png(np.zeros((9, 9), np.uint8), "GIF")),
    ],
    ids=["empty", "text", "white", "cut", "PostScript", "Photoshop", "large", "GIF"],
)
def test_a_bad_upload_is_refused_in_a_sentence(raw: bytes) -> None:
    """No picture, an empty one, or half of one."""
    with pytest.raises(uploads.Refused, match=r"\.$"):
        uploads.framed(raw, (1, 28, 28), digits=True)


def test_an_upload_on_the_page(lab: Lab) -> None:
    """A file is attacked; one that is no picture is said; it stands in no address."""
    planted(lab)
    app = opened(lab, playground_source="upload")
    paper = np.full((60, 60), 255, dtype=np.uint8)
    paper[10:50, 28:33] = 0
    app.session_state["playground_kept_upload"] = ("one.png", png(paper))
    app.run()
    assert stage(app)["alt"].startswith("The original: your picture one.png")
    assert any("address" in caption.value for caption in app.caption)
    app.session_state["playground_kept_upload"] = ("bad.png", b"nothing")
    app.run()
    assert any("bad.png" in error.value for error in app.error)


def test_the_time_limit_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack that takes too long leaves a sentence in place of the picture."""
    planted(lab)
    monkeypatch.setattr(answers, "LIMIT", 0.0)
    monkeypatch.setattr(answers.compute, "__defaults__", (0.0,))
    data = stage(opened(lab))
    assert data["sides"][0]["frames"] == {}
    assert "time limit" in data["sides"][0]["wrong"]


def test_the_image_is_there_before_torch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until PyTorch is loaded the stage has the image and says what it waits for; the browser asks again."""
    planted(lab)
    monkeypatch.setattr(warm, "torch_ready", lambda: False)
    data = stage(opened(lab))
    assert "PyTorch is loading" in data["wait"]
    assert len(data["x"]) > 1000
    assert data["more"]


def test_what_lies_ahead_is_computed(lab: Lab) -> None:
    """Run by run the other ε, the proof and the other targets come, at last as one file; then nothing is left."""
    planted(lab)
    app = opened(lab)
    grew = [set(stage(app)["sides"][0]["frames"])]
    for _ in range(40):
        if not stage(app)["more"]:
            break
        app.run()
        grew.append(set(stage(app)["sides"][0]["frames"]))
    data = stage(app)
    assert data["more"] == ""
    side = data["sides"][0]
    assert {f"any|{k}" for k in range(len(data["stops"]))} <= grew[-3]
    assert {f"{target}|{data['at']}" for target, _ in data["targets"]} <= grew[-3]
    assert side["proof"].startswith("Could any attack do it?")
    assert side["pack"].endswith(".gz")
    assert set(side["frames"]) == {f"any|{data['at']}"}  # the file has the others
    ((digest, _),) = packs.made.items()
    everything = {f"{target}|{k}" for target, _ in data["targets"] for k in range(len(data["stops"]))}
    assert set(packs.frames(digest)) == everything
    assert all(frame["a"] and frame["t"] for frame in packs.frames(digest).values())


def test_a_file_of_all_answers_answers_for_them(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was forgotten since is read from it, not computed again; without a file a move is computed, as before."""
    model = planted(lab)
    app = opened(lab)
    while stage(app)["more"]:
        app.run()
    answers.recent.clear()
    monkeypatch.setattr(answers, "clean", lambda model, picture: np.full(10, 0.1))
    monkeypatch.setattr("core.evaluation.live.attacking.attacked", lambda *_, **__: pytest.fail("computed"))
    data = stage(opened(lab, playground_model=model.id, playground_target="1", playground_eps="0.3"))
    assert data["sides"][0]["frames"][f"1|{data['at']}"]["a"]


def test_answers_of_many_classes_are_not_sent_together(lab: Lab) -> None:
    """Of a thousand classes only what the sliders ask for is computed and sent."""
    names = [f"class {k}" for k in range(1000)]
    picture = Picture(np.zeros((3, 64, 64), np.float32), 0, "black")
    model = planted(lab)
    many = replace(model, card={**model.card, "class_names": names})
    side = answers.Question(many, picture, 0, specs.Fgsm(), "linf", 5, tuple(k / 40 for k in range(41)))
    assert stage_module._targets(side) == [5]
    assert stage_module._bytes(side) > stage_module.MOST


def test_measure_goes_to_the_sweep(lab: Lab) -> None:
    """The button opens the epsilon sweep with this model."""
    model = planted(lab)
    app = opened(lab)
    app.button(key="playground_measure").click().run()
    assert app.session_state["epsilon_sweep_models"] == [model.id]


def test_gradient_steps(lab: Lab) -> None:
    """The tab has the steps as frames, what the image looks like, and the matrix of success."""
    planted(lab)
    query = {"playground_tab": "Gradient steps on the input", "playground_input_class": "3"}
    app = opened(lab, **query, playground_target_class="5", playground_iterations="30")
    player = next(data for data in components(app) if "changes" in data)
    assert len(player["frames"]) == len(player["p"]) == 31
    assert player["source"] == 3
    assert player["target"] == 5
    assert player["reached"] > 0
    assert int(np.argmax(player["p"][player["reached"]])) == 5
    assert any("nearest to the mean" in text.value for text in app.markdown)
    assert any("of 90 pairs" in caption.value for caption in app.caption)


def test_words_of_verdicts() -> None:
    """Fooled, not fooled, another class than the target, wrong before."""
    names = [str(k) for k in range(10)]
    settings: dict[str, Any] = {"target": None, "known": True}
    assert verdicts.verdict(names, 4, 4, 9, 0.98, success=True, **settings) == (
        "fooled",
        "The 4 is now classified as 9 with 98% confidence.",
    )
    assert verdicts.verdict(names, 4, 4, 4, 0.9, success=False, **settings)[0] == "holds"
    assert "not as 7" in verdicts.verdict(names, 4, 4, 9, 0.5, success=False, target=7, known=True)[1]
    assert verdicts.verdict(names, 4, 9, 9, 0.9, success=True, **settings)[0] == "before"
    assert verdicts.change("linf", {"l0": 3, "linf": 31 / 255}, 784).endswith("0.12 (31/255).")
    assert verdicts.change("l0", {"l0": 3, "pixels": 3}, 784) == "3 of 784 pixels changed."
    assert verdicts.share(0.99999) == "more than 99.9%"
    assert verdicts.proven(0.02, "linf") == "Could any attack do it? Proven: no change up to 0.02 (5.1/255) can."


def test_recent_answers_forget_the_oldest() -> None:
    """No more is kept than allowed; what was asked for of late stays."""
    held = answers.Recent(2)
    for name in "ab":
        held.put(name, name)
    assert held.get("a") == "a"
    held.put("c", "c")
    assert held.get("b") is None
    assert held.get("a") == "a"


def test_the_opening_waits_for_no_pytorch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bundled models the first picture, both networks' answers at every ε, is there before PyTorch is."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
    monkeypatch.setattr(warm, "torch_ready", lambda: False)
    monkeypatch.setattr(answers, "compute", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr(stage_module, "ahead", lambda scene: None)
    data = stage(opened(lab))
    assert data["wait"] == ""
    assert len(data["sides"]) == 2
    for side in data["sides"]:
        assert side["clean"] is not None
        assert f"any|{data['at']}" in side["frames"]
        assert side["pack"].endswith(".gz")


def test_the_opening_is_what_would_be_computed(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What lies with the program is what these models answer here: an attack that was changed since is noticed."""
    monkeypatch.delenv("ADVERSARIAL_LAB_REFERENCE", raising=False)
    kept = stage(opened(lab))
    monkeypatch.setattr(opening, "get", lambda key: None)
    monkeypatch.setattr(packs, "FOLDER", tmp_path)
    answers.forget()
    made = stage(opened(lab))
    assert (kept["at"], kept["stops"]) == (made["at"], made["stops"])
    for one, other in zip(kept["sides"], made["sides"], strict=True):
        assert one["clean"] == pytest.approx(other["clean"], abs=1e-3)
        before, now = (side["frames"][f"any|{kept['at']}"] for side in (one, other))
        assert before["k"] == now["k"]
        assert before["p"] == pytest.approx(now["p"], abs=0.05)


def moves() -> None:
    """An ε that the stage has moved to 0.4, while the browser's address still says 0.01."""
    import streamlit as st

    from ui.playground import address

    st.session_state["eps"] = address.value("eps", float, str, 0.1)


@pytest.mark.parametrize("behind", [True, False])
def test_an_address_that_is_behind_moves_no_slider_back(behind: bool) -> None:
    """In a run that the stage asked for; in any other, another address is followed: somebody went back to it."""
    app = AppTest.from_function(moves, default_timeout=300)
    app.session_state["playground_eps"], app.session_state["playground_eps_followed"] = 0.4, "0.4"
    app.session_state[address.MOVED] = behind
    app.query_params["playground_eps"] = "0.01"
    app.run()
    assert app.session_state["eps"] == (0.4 if behind else 0.01)
    assert "".join(app.query_params["playground_eps"]) == ("0.4" if behind else "0.01")
