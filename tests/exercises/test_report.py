"""The lab report: one file that a browser, pandas and Pillow read, without a request, of real results."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import pandas as pd
import pytest
from PIL import Image

from core.__main__ import main
from core.exercises import curves, evidence, notes, sets
from core.exercises.report import page, report, svg
from core.storage import store
from tests.fixtures import hostile

STORE = Path(__file__).resolve().parents[1] / "fixtures" / "artifacts" / "store"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of real results with an answer and a quiz."""
    where = Path(shutil.copytree(STORE, tmp_path_factory.mktemp("report") / "store"))
    notes.change(where, lambda kept: notes.ticked(kept, "2.3", True))
    notes.change(where, lambda kept: notes.answered(kept, "2.4", "Because <b>sparse</b> & steep"))
    row = {"asked": 3, "models": {"LeNet": 1}}
    notes.change(
        where, lambda kept: notes.quizzed(kept, [{"eps": 0.0, "right": 3, **row}, {"eps": 0.3, "right": 2, **row}])
    )
    return where


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    """Its report."""
    return report.html(evidence.gather(root, notes.read(root)), author="A. Student")


def test_it_asks_for_nothing(text: str) -> None:
    """No address but the names of XML, no script, no link, no file: it is whole."""
    addresses = {found.group() for found in re.finditer(r"https?://[^\s\"'<>)]+", text)}
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(script|link|iframe|object)\b|@import|url\(", text)
    assert set(re.findall(r'src="([^"]{0,22})', text)) == {"data:image/png;base64,"}


def test_pictures_are_pictures(text: str) -> None:
    """Each decodes, and has words."""
    tags = re.findall(r"<img [^>]*>", text)
    assert len(tags) > 20
    for tag in tags:
        data = re.search(r'src="data:image/png;base64,([^"]+)"', tag)
        assert data is not None
        with Image.open(io.BytesIO(base64.b64decode(data.group(1)))) as picture:
            picture.load()
            assert picture.size == (8, 8)
        alt = re.search(r'alt="([^"]*)"', tag)
        assert alt is not None
        assert alt.group(1).strip()


def test_pandas_reads_the_tables(text: str, root: Path) -> None:
    """Figures stand there as they do in the cards."""
    tables = pd.read_html(io.StringIO(text))
    published = [table for table in tables if "published" in table.columns]
    assert published
    assert (pd.concat(published)["in this store [95 %]"].str.contains("%|pixels|–|\\d")).all()
    known = evidence.gather(root)
    sweep = next(one for one in known.results if one.artifact.id.startswith("attack-jacobian_sparse"))
    rate = f"{100 * sweep.artifact.card['metrics']['success_rate']:.1f} %"
    figures = pd.concat([table for table in tables if list(table.columns) == ["figure", "value", "95 % interval"]])
    assert rate in set(figures[figures["figure"] == "success rate"]["value"])


def test_it_says_what_was_asked_and_answered(text: str, root: Path) -> None:
    """Title, task, status, questions, the answer as it was written, and where figures come from."""
    plain = unescape(re.sub(r"<[^>]+>", " ", text))
    for name in ("2.1", "2.3", "2.4", "5.2+ quiz"):
        item = sets.item(name)
        assert item.title in plain
        assert item.task in plain
        assert all(question in plain for question in item.discuss)
    assert "Because <b>sparse</b> & steep" in unescape(text)
    assert "<b>sparse" not in text
    assert "A. Student" in text
    assert sets.item("3.6").task not in plain
    known = evidence.gather(root)
    for found in known.results:
        if found.artifact.id.startswith(("attack-jacobian", "universal", "pattern")):
            assert found.artifact.id in plain
    assert text.count('contenteditable="true"') == 1 + len(report.chosen(evidence.gather(root, notes.read(root))))


def test_charts_are_sound_xml_with_labels_apart(text: str) -> None:
    """Every chart parses, has words, and no two names lie on each other."""
    charts = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
    assert charts
    for chart in charts:
        found = ElementTree.fromstring(chart)
        assert found.get("aria-label")
    close = [curves.Series(f"n{k}", (0.0, 1.0), (0.5, 0.1 + 0.001 * k), place=k) for k in range(6)]
    drawn = svg.chart(close, alt="a", x_title="x", y_title="y")
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="s">n\d', drawn))
    assert len(heights) == 6
    assert all(below - above >= svg.LINE - 0.01 for above, below in pairwise(heights))
    assert max(heights) <= svg.HEIGHT


def test_bundled_results_can_be_left_out(root: Path) -> None:
    """With nothing of one's own the report says so."""
    empty = evidence.Evidence(notes={"ticked": {}, "answers": {}, "quiz": []})
    assert "No item is done yet" in report.html(empty, with_bundled=False)
    known = evidence.gather(root, notes.read(root))
    assert {item.name for item in report.chosen(known, numbers=(2,))} >= {"2.1", "2.3", "2.4"}
    assert all(item.row.startswith("2") for item in report.chosen(known, numbers=(2,)))


def test_a_damaged_result_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    """One broken file costs its pictures, not the report."""
    where = Path(shutil.copytree(STORE, tmp_path / "store"))
    broken = next(where.glob("*/results/attack-jacobian_sparse-*/images.safetensors"))
    broken.write_bytes(b"nothing")
    made = report.html(evidence.gather(where))
    assert "cannot be read" in made
    assert sets.item("2.6").title in made


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`report` writes the file and lists its items; a set that there is not is refused."""
    monkeypatch.setenv("ADVERSARIAL_LAB_STORE", str(shutil.copytree(STORE, tmp_path / "store")))
    out = tmp_path / "lab.html"
    assert main(["report", "--out", str(out), "--sets", "2", "--json"]) == 0
    assert '"2.4"' in capsys.readouterr().out
    assert "Set 2" in out.read_text(encoding="utf-8")
    assert "Set 3" not in out.read_text(encoding="utf-8")
    assert main(["report", "--sets", "7"]) == 2
    assert store.default_root() == tmp_path / "store"


def test_missing_values_are_dashes() -> None:
    """In a table, None and an empty text."""
    assert page.table(("a", "b"), [(None, "")], caption="c").count("<td>–</td>") == 2


def test_no_name_in_a_store_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    """Names of classes, of the author, and answers stand there as text: no tag, no request."""
    name = "<img src=x onerror=alert(1)> ![x](http://evil.example/a.png) \"'--></script>"
    where = hostile.copied(tmp_path / "store", lambda number, _: f"{name}{number}")
    notes.change(where, lambda kept: notes.answered(kept, "2.4", name))
    text = report.html(evidence.gather(where, notes.read(where)), author=name)

    class Page(HTMLParser):
        """Every tag with its attributes."""

        found: ClassVar[list[tuple[str, dict[str, str | None]]]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.append((tag, dict(attrs)))

    Page().feed(text)
    assert len(set(re.findall(r"script&gt;(\d)", text))) > 1, "names of several classes are there"
    assert not [tag for tag, given in Page.found if "onerror" in given or (given.get("src") or "data:").startswith("x")]
    assert not [given for _, given in Page.found for key in ("src", "href") if "evil" in (given.get(key) or "")]
    assert "<img src=x" not in text
