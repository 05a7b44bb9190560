"""Every export is opened by the tool that its reader has: pandas with its defaults, pdflatex, openpyxl, numpy, PIL."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.evaluation.tables import export, workbook
from ui.show import downloads, gallery, sheet
from ui.show.sheet import Picture

FRAME = pd.DataFrame(
    {
        "model": ["LeNet · FGSM-trained", "50 % & more_than {that} \\ #1", "≤ ε, → ∞ ✓"],
        "ε": [0.0, 0.1, 8 / 255],
        "ℓ∞ median": [0.123456789, np.nan, np.inf],
        "n": [1000, 1000, 360],
        "ℓ₁": [np.nan, np.nan, np.nan],
    }
)
LINES = "model mnist-lenet · ℓ∞ · ε 0.1 (25.5/255)\nn = 1,000 · – & %"
X = np.random.default_rng(0).random((1, 28, 28)).astype(np.float32)


def test_pandas_reads_the_csv_with_its_defaults() -> None:
    """The same table comes back, to the last bit, and nothing else."""
    written = export.to_text(FRAME, "csv", LINES)
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(written)), FRAME)
    assert list(pd.read_csv(io.StringIO(written)).dtypes) == list(FRAME.dtypes)


def test_tables_for_people_have_a_dash_where_nothing_was_measured() -> None:
    """Never `nan`; a column that was measured nowhere is left out, but for CSV, which is for programs."""
    for ending, dash in (("md", "–"), ("tex", r"{\textendash}")):
        written = export.to_text(FRAME, ending, LINES)
        assert "nan" not in written
        assert "ℓ₁" not in written
        assert "_1" not in written
        assert dash in written
        assert "0.123457" in written
    assert export.to_text(FRAME, "md", LINES).endswith(f"\n\n{LINES}\n")
    with pytest.raises(ValueError, match="csv, md, tex"):
        export.to_text(FRAME, "xls", "")


def test_latex_is_plain_ascii() -> None:
    """Pdflatex knows no other sign; the provenance is a comment."""
    written = export.to_text(FRAME, "tex", LINES)
    assert written.isascii()
    assert written.startswith("% model mnist-lenet")
    assert r"\ensuremath{\ell}" in written
    assert r"\ensuremath{\varepsilon}" in written
    assert r"\toprule" in written


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_pdflatex_prints_the_table(tmp_path: Path) -> None:
    """A document that inputs the file compiles."""
    (tmp_path / "table.tex").write_text(export.to_text(FRAME, "tex", LINES), encoding="ascii")
    (tmp_path / "doc.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\begin{document}"
        "\\input{table}\\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_excel_holds_every_table_and_where_it_comes_from() -> None:
    """Read back by openpyxl through pandas."""
    book = pd.read_excel(io.BytesIO(workbook.to_excel({"table": FRAME}, LINES.splitlines())), sheet_name=None)
    assert list(book) == ["provenance", "table"]
    assert list(book["table"]["n"]) == list(FRAME["n"])


def test_arrays_carry_everything_that_is_needed_to_use_them() -> None:
    """Numpy opens them without pickle: labels, targets and success of each image, and the provenance."""
    rows = pd.DataFrame(
        {"index": [3, 4], "y": [7, 1], "target": [None, 2], "success": [True, False], "name": ["a", None]}
    )
    images = np.stack([X, X])
    columns = {name: downloads.column(rows[name]) for name in rows}
    read = np.load(io.BytesIO(downloads.npz({**columns, "x": images}, LINES)), allow_pickle=False)
    assert str(read["provenance"]) == LINES
    assert (read["x"] == images).all()
    assert read["index"].tolist() == [3, 4]
    assert read["y"].tolist() == [7, 1]
    assert np.isnan(read["target"][0])
    assert read["target"][1] == 2
    assert read["success"].tolist() == [True, False]
    assert read["name"].tolist() == ["a", ""]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 224, 224)])
def test_a_grid_is_one_picture_with_its_labels(shape: tuple[int, int, int]) -> None:
    """PIL opens it; every pixel is there, enlarged without smoothing; title, labels and captions are ink around it."""
    image = np.random.default_rng(1).random(shape).astype(np.float32)
    grid = drawn([[image, None], [image, image]], rows=["4", "9"], captions=[["4 → 9", ""], ["", "98 %"]])
    bare = drawn([[image, None], [image, image]])
    opened = Image.open(io.BytesIO(sheet.png(grid, 1, LINES)))
    assert opened.text["Description"] == LINES  # type: ignore[attr-defined]
    pixels, scale = np.asarray(opened), max(1, -(-sheet.MIN_TILE // shape[2]))
    wanted = gallery.rgb(image).repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = wanted.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3, 3))[:, :, 0]
    corners = np.argwhere((windows == wanted[:3, :3]).all(axis=(2, 3, 4)))
    found = [(y, x) for y, x in corners if np.array_equal(pixels[y : y + height, x : x + width], wanted)]
    assert len(found) == 3
    plain = np.asarray(Image.open(io.BytesIO(sheet.png(bare, 1))))
    assert pixels.shape[0] > plain.shape[0], "captions take room"
    assert pixels.shape[1] > plain.shape[1], "so do labels"


def test_every_sign_of_the_pages_has_a_glyph() -> None:
    """The font that comes with the program has the letters of mathematics: none is drawn as an empty box."""
    font = sheet._font(20)
    empty = font.getmask("\uffff").getbbox(), bytes(font.getmask("\uffff"))
    for sign in "ε→×ℓ∞±·–≤≥σ“”δ²−‖λτé₁Σ":
        assert (font.getmask(sign).getbbox(), bytes(font.getmask(sign))) != empty, sign


def drawn(tiles: list[list[np.ndarray | None]], **labels: list[object]) -> Picture:
    """What `gallery.show` returns."""
    made: Picture = gallery.show(tiles, alt="Two digits, ε = 0.1", **labels)  # type: ignore[arg-type]
    return made
