"""Masks as pixels: shapes that look right at any size, masks drawn by hand there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from core.attacks.physical import mask_shapes
from core.specs import AttackSpec, Cells, Eyeglasses, Patch, explain


@pytest.mark.parametrize("side", [16, 28, 32, 64, 224])
def test_eyeglasses_are_one_frame_around_two_lenses(side: int) -> None:
    """One connected frame, two equal holes, the same on both sides, as wide as the image, about a seventh of it."""
    frame = mask_shapes.eyeglasses(side, side)
    assert ndimage.label(frame)[1] == 1
    ground, pieces = ndimage.label(~frame)
    edge = {0, *ground[0], *ground[-1], *ground[:, 0], *ground[:, -1]}
    lenses = [int((ground == piece).sum()) for piece in range(1, pieces + 1) if piece not in edge]
    assert len(lenses) == 2
    assert lenses[0] == lenses[1] > 0.01 * side**2
    assert np.array_equal(frame, frame[:, ::-1])
    assert frame.any(axis=0).all()
    assert 0.12 < frame.mean() < 0.2


def test_eyeglasses_go_where_they_are_put() -> None:
    """Width, and the free room above and at the left, in an image that is not square."""
    frame = mask_shapes.eyeglasses(32, 48, size=0.5, top=1.0, left=0.0)
    columns = frame.any(axis=0).nonzero()[0]
    assert (columns[0], columns[-1]) == (0, 15)
    assert frame.any(axis=1).nonzero()[0][-1] == 31
    assert mask_shapes.eyeglasses(32, 48, size=0.5, top=0.0).any(axis=1).nonzero()[0][0] == 0


def test_patch_is_a_square_inside_the_image() -> None:
    """Its side and its corner, at the ends and in the middle of the free room."""
    for top, left, corner in [(0, 0, (0, 0)), (1, 1, (20, 32)), (0.5, 0.5, (10, 16))]:
        square = mask_shapes.patch(28, 40, size=0.3, top=top, left=left)
        assert square.sum() == 64
        assert tuple(int(axis[0]) for axis in square.nonzero()) == corner
    assert mask_shapes.patch(28, 28, size=0.001).sum() == 1


def test_drawn_mask_survives_its_spec() -> None:
    """Any pattern, also where the number of pixels is no multiple of eight; the right cells and no others."""
    generator = np.random.default_rng(0)
    for height, width in [(8, 8), (9, 11), (28, 28)]:
        drawn = generator.random((height, width)) < 0.3
        spec = mask_shapes.from_array(drawn)
        assert np.array_equal(mask_shapes.draw(spec, height, width), drawn)
        assert AttackSpec(model="m", attack="ddn", mask=spec.model_dump()).mask == spec
    with pytest.raises(ValueError, match="expected cells of 8 x 8, as the images, got 28 x 28"):
        mask_shapes.draw(spec, 8, 8)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("none", None),
        ("eyeglasses", Eyeglasses()),
        ("patch:size=0.25,top=0,left=1", Patch(size=0.25, top=0, left=1)),
        ("cells:height=1,width=9,bits=8080", Cells(height=1, width=9, bits="8080")),
    ],
)
def test_mask_from_text_is_the_spec(text: str, spec: object) -> None:
    """What the command line takes."""
    assert AttackSpec.model_validate({"model": "m", "attack": "ddn", "mask": text}).mask == spec


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("hat", "mask: expected none or one of eyeglasses, patch, cells, got 'hat'"),
        ("patch:size=2", "mask.patch.size: expected less than or equal to 1"),
        ("patch:side=1", "mask.patch.side"),
        ({"shape": "cells", "height": 2, "width": 4, "bits": "ffff"}, "bits: expected 2 hexadecimal digits"),
        ({"shape": "cells", "height": 1, "width": 4, "bits": "0f"}, "bits: expected at least one pixel"),
    ],
)
def test_bad_masks_are_refused(mask: Any, message: str) -> None:
    """By the field's name."""
    with pytest.raises(ValidationError) as error:
        AttackSpec(model="m", attack="ddn", mask=mask)
    assert message in explain(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mask_shapes.eyeglasses(7, 28), "height: expected at least 8 pixels, got 7"),
        (lambda: mask_shapes.eyeglasses(28, 28, size=0.1), "size: expected a share from 0.4 to 1, got 0.1"),
        (lambda: mask_shapes.patch(28, 28, size=0.0), "size: expected a share above 0 to 1, got 0.0"),
        (lambda: mask_shapes.patch(28, 28, left=1.5), "left: expected a share from 0 to 1, got 1.5"),
        (lambda: mask_shapes.from_array(np.zeros((3, 3))), "mask: expected at least one pixel to change"),
        (lambda: mask_shapes.from_array(np.full((3, 3), 2)), "mask: expected 0 and 1 only, got 2 to 2"),
        (lambda: mask_shapes.from_array(np.ones(3)), r"mask: expected shape \(H, W\), got \(3,\)"),
    ],
)
def test_bad_shapes_are_refused(call: Any, message: str) -> None:
    """By the argument's name."""
    with pytest.raises(ValueError, match=message):
        call()
