"""Mosaics, signed differences, and files with their provenance inside."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from ui.app import jobs
from ui.show import gallery
from ui.text import PERCENT, in_percent

GREY = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)


def test_mosaic_keeps_every_pixel() -> None:
    """Tiles lie at native resolution, eight-bit values exact, gaps and blanks transparent."""
    picture = gallery.mosaic([[GREY, None], [GREY, GREY]])
    gap = gallery.gap_for(8)
    assert picture.shape == (16 + gap, 16 + gap, 4)
    assert (picture[:8, :8, 0] == np.rint(GREY[0] * 255)).all()
    assert (picture[:8, 8 + gap :, 3] == 0).all()
    assert (picture[8 : 8 + gap, :, 3] == 0).all()


def test_mosaic_refuses_tiles_of_different_sizes() -> None:
    """One mosaic, one size."""
    with pytest.raises(ValueError, match="one size"):
        gallery.mosaic([[GREY, np.zeros((1, 4, 4), np.float32)]])
    with pytest.raises(ValueError, match="one size"):
        gallery.mosaic([[None]])


def test_colour_images_keep_their_channels() -> None:
    """(3, H, W) becomes (H, W, 3)."""
    image = np.zeros((3, 2, 2), np.float32)
    image[1] = 1
    assert (gallery.rgb(image) == [0, 255, 0]).all()


def test_words_over_columns_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns keep room for the longest word twice and for tiles that can be seen, at most the wished width."""
    drawn: list[str] = []
    monkeypatch.setattr(gallery.st, "html", drawn.append)
    for columns, tile in ((["original", "→ 0"], 96), (["original", "→ 0"], 8), (None, 96)):
        gallery.show([[GREY, GREY]], alt="two", columns=columns, tile=tile)
    least = [re.search(r"minmax\((\d+)px,(\d+)px\)", text) for text in drawn]
    assert [match and match.groups() for match in least] == [("110", "204"), ("17", "17"), ("85", "204")]


def test_pixels_are_whole_at_every_width_and_a_column_can_be_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width is a multiple of the native one, rounded down; the frame lies over the marked column alone."""
    drawn: list[str] = []
    monkeypatch.setattr(gallery.st, "html", drawn.append)
    for marked in (None, 1):
        gallery.show([[GREY, GREY]], alt="two", columns=["a", "b"], captions=[["c", "d"]], tile=96, marked=marked)
    assert all(text.count("round(down,100%,17px)") == 3 for text in drawn)  # labels, picture, captions
    assert "outline" not in drawn[0]
    assert drawn[1].count("outline") == 1
    assert f"left:{100 * 9 / 17:.3f}%;width:{100 * 8 / 17:.3f}%" in drawn[1]
    assert "▾ b" in drawn[1]


def test_shares_are_shown_as_per_cent() -> None:
    """None becomes NaN, other columns and those that are not there are left alone."""
    shown = in_percent(pd.DataFrame({"n": [1, 2], "clean": [0.901, None]}), ("clean", "proven"))
    assert shown["n"].tolist() == [1, 2]
    assert shown["clean"].tolist() == pytest.approx([90.1, np.nan], nan_ok=True)
    assert PERCENT % shown["clean"][0] == "90.10%"


def test_difference_is_signed_and_diverging() -> None:
    """Blue for darker, near-white for unchanged, red for brighter."""
    low, none, high = gallery.difference(np.array([[[-0.1, 0.0, 0.1]]]), gain=10)[0].astype(int)
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert (none == 247).all()


@pytest.mark.parametrize(("largest", "gain"), [(0.1, 10), (0.3, 2), (1.0, 1), (0.004, 200), (0.0, 1)])
def test_gain_is_round_and_clips_nothing(largest: float, gain: float) -> None:
    """The largest of 1, 2, 5, 10, … at which the strongest change is still inside the scale."""
    assert gallery.gain_for(np.array([largest, -largest / 2])) == pytest.approx(gain)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (4800, "1 h 20 min"), (7200, "2 h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    """Never a bare number of seconds beyond a minute."""
    assert jobs.duration(seconds) == said
