"""A public server: which folders are read, what messages say of places, what the command passes on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import access
from core.cli.dashboard import server
from core.data import folder, folder_layout, npz, own
from core.specs import DataSpec


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images, and a file of images, below `shared`; a link to a place outside."""
    for part in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "shared" / "set" / part / label).mkdir(parents=True)
            Image.new("L", (8, 8), 9).save(tmp_path / "shared" / "set" / part / label / "0.png")
    np.savez(tmp_path / "shared" / "set.npz", x=np.zeros((2, 8, 8), np.uint8), y=np.arange(2))
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "set").symlink_to(tmp_path / "shared" / "set", target_is_directory=True)
    (tmp_path / "shared" / "out").symlink_to(tmp_path / "private", target_is_directory=True)
    return tmp_path


@pytest.mark.parametrize("public", ["", "0", "false", "No"])
def test_without_it_every_folder_is_read(images: Path, monkeypatch: pytest.MonkeyPatch, public: str) -> None:
    """As any program of this user would."""
    monkeypatch.setenv(access.PUBLIC, public)
    assert not access.is_public()
    assert folder_layout.layout(str(images / "shared" / "set")).classes == ("a", "b")
    assert npz.stamp(str(images / "shared" / "set.npz"))


def test_only_folders_that_are_named_are_read(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a path leads in the end: not by `..`, not by a link; refused alike whether something is there or not."""
    monkeypatch.setenv(access.PUBLIC, "1")
    monkeypatch.setenv(access.FOLDERS, os.pathsep.join([str(images / "shared"), str(images / "nowhere")]))
    assert folder_layout.layout(str(images / "shared" / "set")).classes == ("a", "b")
    assert npz.stamp(str(images / "shared" / "set.npz"))
    outside = [images / "private", images / "shared" / ".." / "private", images / "shared" / "out", Path("/etc")]
    for path in [*outside, images / "there-is-none", images / "shared-not"]:
        for reads in (folder_layout.layout, npz.stamp):
            with pytest.raises(folder.DataMissing, match="below the folders that its keeper has named"):
                reads(str(path))
        assert not own.is_there(DataSpec(dataset="folder", folder=str(path)))


@pytest.mark.parametrize("public", [True, False])
def test_without_named_folders_a_public_server_reads_none(
    images: Path, monkeypatch: pytest.MonkeyPatch, public: bool
) -> None:
    """Naming folders limits a private one, too."""
    monkeypatch.setenv(access.PUBLIC, "1" if public else "")
    monkeypatch.setenv(access.FOLDERS, "" if public else str(images / "private"))
    with pytest.raises(folder.DataMissing, match="reads images"):
        folder_layout.layout(str(images / "shared" / "set"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read /home/ann/store/net.safetensors: damaged", "cannot read …/net.safetensors: damaged"),
        ("got '/etc'", "got '…/etc'"),
        (r"got C:\Users\ann\set\a.png, which is empty", "got …/a.png, which is empty"),
        ("8/255 and 1/2 of https://example.org/a/b", "8/255 and 1/2 of https://example.org/a/b"),
        ("and/or", "and/or"),
        ("folder: /data/x/: nothing there", "folder: …: nothing there"),
    ],
)
def test_messages_name_no_places_to_strangers(monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    """The name of a file stays, fractions and addresses are no paths; without strangers nothing is changed."""
    monkeypatch.setenv(access.PUBLIC, "1")
    assert access.without_places(text) == told
    monkeypatch.delenv(access.PUBLIC)
    assert access.without_places(text) == text


def test_the_command_tells_the_server() -> None:
    """Uploads are small, no browser is opened; without it nothing of that."""
    public, private = server(8501, None, False, True), server(8501, None, False)
    assert f"--server.maxUploadSize={access.MAX_UPLOAD}" in public
    assert "--server.headless=true" in public
    assert not any("maxUploadSize" in word or "headless" in word or "address" in word for word in private)
