"""A network of one's own in a real browser: uploaded, found out about, attacked."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_dashboard import shown

pytestmark = [pytest.mark.browser, pytest.mark.slow]
onnx = pytest.importorskip("onnx")


def nearest_mean(path: Path) -> None:
    """A linear network in ONNX that classifies the embedded digits by the nearest mean image, scaled to −1…1."""
    from core.data.sets import load
    from core.specs import DataSpec

    data = load(DataSpec(dataset="digits"))
    x, y = data.train.x.numpy().reshape(len(data.train.x), -1) / 127.5 - 1, data.train.y.numpy()
    means = np.stack([x[y == label].mean(0) for label in range(10)]).astype(np.float32)
    bias = (-0.5 * (means**2).sum(1)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["x"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "means", "bias"], ["logits"], transB=1),
        ],
        "nearest-mean",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1, 8, 8])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 10])],
        [onnx.numpy_helper.from_array(means, "means"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)


def test_a_graph_is_uploaded_examined_and_attacked(page: Page, tmp_path: Path) -> None:
    """From an empty store: the file, one button, the findings in view, and the Playground with the model chosen."""
    nearest_mean(tmp_path / "Nearest Mean.onnx")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("/add_model?add_model_dataset=digits")
    shown(page, "add_model")
    button = page.get_by_role("button", name="Import", exact=True)
    expect(button).to_be_disabled()
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(tmp_path / "Nearest Mean.onnx")
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_test_id("stToast").filter(has_text="Done: Import nearest-mean")).to_be_visible()
    answer = page.locator(".st-key-add_model_answer")
    expect(answer.get_by_text(re.compile("test images are classified correctly"))).to_be_in_viewport()
    expect(answer.locator("svg.main-svg").first).to_be_in_viewport()
    expect(page.get_by_role("table").get_by_text(re.compile("[✓ℹ?].(fine|note|doubt)")).first).to_be_visible()
    assert page.get_by_test_id("stException").count() == 0
    page.get_by_role("button", name="Attack it").click()
    expect(page).to_have_title(re.compile("^Playground"))
    expect(page.get_by_text("nearest-mean · imported").first).to_be_visible()
    expect(page.get_by_text(re.compile("classified as")).first).to_be_visible()


def test_what_is_no_graph_is_refused_in_a_sentence(page: Page, tmp_path: Path) -> None:
    """The page says why, keeps the settings, and offers another file; nothing is imported."""
    (tmp_path / "broken.onnx").write_bytes(b"this is no graph")
    page.goto("/add_model?add_model_dataset=digits&add_model_label=theirs")
    shown(page, "add_model")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(tmp_path / "broken.onnx")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_test_id("stAlert").filter(has_text="The job failed.")).to_be_visible()
    expect(page).to_have_url(re.compile("add_model_label=theirs"))
    page.get_by_role("button", name="Another file").click()
    expect(page.get_by_test_id("stFileUploaderDropzoneInput")).to_be_attached()
    assert page.get_by_test_id("stException").count() == 0
