"""Data as bytes and folders on disk: safetensors, Parquet and strict JSON, written so that a crash leaves no half.

No pickle is read or written here, whatever is given. Imports no torch.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import json
import math
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy

if TYPE_CHECKING:
    import pandas as pd

PACKED = ".zst"
"""The ending of a packed file, behind its own."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def is_id(name: str) -> bool:
    """Whether a name can be an artifact's or a job's: a plain one, which leads out of no folder."""
    return _ID.fullmatch(name) is not None


def checked_id(name: str, where: str) -> str:
    """The name, if it can be an id; ids come from addresses and command lines. Raises ValueError naming `where`."""
    if not is_id(name):
        raise ValueError(f"{where}: expected an id of letters, digits, '-', '_' and '.', got {name!r}")
    return name


def encode_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays of numbers or truth values as the bytes of a safetensors file. Raises ValueError on any other dtype."""
    plain = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise ValueError(f"{name}: expected an array of numbers or truth values, got dtype {array.dtype}")
        # safetensors writes the memory as it lies, so a transposed or strided view has to be laid out first.
        plain[name] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return safetensors.numpy.save(plain)


def decode_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `encode_arrays`, writable. Raises ValueError on anything but a whole safetensors file."""
    try:
        # Copies: these are views of `data`, and torch.from_numpy warns of arrays that cannot be written to.
        return {name: array.copy() for name, array in safetensors.numpy.load(data).items()}
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"data: expected a safetensors file, got {len(data)} bytes that are none ({error})") from error


def encode_table(table: pd.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file, without its index. Raises ValueError on columns that it cannot hold."""
    buffer = io.BytesIO()
    try:
        table.to_parquet(buffer, index=False)
    except (ValueError, TypeError) as error:  # pyarrow's own errors are one of the two, too
        raise ValueError(f"table: expected columns of numbers, truth values or text ({error})") from error
    return buffer.getvalue()


def decode_table(data: bytes) -> pd.DataFrame:
    """The inverse of `encode_table`. Raises ValueError or OSError on anything but a whole Parquet file."""
    import pandas as pd

    return pd.read_parquet(io.BytesIO(data))


def packed(data: bytes) -> bytes:
    """The bytes of a file in less room, without loss; they lie beside where it would, as FILE.zst."""
    import pyarrow

    codec = pyarrow.Codec("zstd", compression_level=19)
    return bytes(codec.compress(data, asbytes=True))


def unpacked(data: bytes) -> bytes:
    """The inverse of `packed`. Raises ValueError on anything else."""
    import pyarrow

    try:
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
            return bytes(stream.read())
    except OSError as error:
        raise ValueError(f"data: expected a packed file, got {len(data)} bytes that are none ({error})") from error


def to_jsonable(value: Any, where: str) -> Any:
    """`value` as plain JSON data: numpy becomes plain, NaN and infinity become None.

    Raises ValueError naming the place, which begins with `where`, of what JSON cannot say.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [to_jsonable(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"{where}: expected names that are text, got {name!r}")
        return {name: to_jsonable(item, f"{where}.{name}") for name, item in value.items()}
    raise ValueError(f"{where}: expected numbers, text, lists and dictionaries, got {type(value).__name__}")


def read_json(path: Path) -> Any:
    """What a strict JSON file says. Raises OSError, or ValueError on what is no JSON (NaN is none)."""
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def write_folder(folder: Path, files: dict[str, bytes], temporary: Path) -> None:
    """Create `folder` with `files` in it, whole or not at all: written under `temporary`, synced, then renamed.

    Raises FileExistsError or another OSError, a full disk among them, and nothing is left; a kill at any moment leaves
    at most a folder in `temporary` whose name begins with `folder`'s.
    """
    half = temporary / f"{folder.name}.{secrets.token_hex(4)}"
    try:
        half.mkdir(parents=True)
        for name, data in files.items():
            with (half / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(half)
        move(half, folder)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    _sync_folder(folder.parent)


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Put a file in the place of another, in one step for every reader. Raises OSError; the other stays then.

    durable: whether it is on the disk before it takes the other's place, so that a power cut leaves one of the two.
    """
    half = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with half.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        move(half, path)
    except BaseException:
        with contextlib.suppress(OSError):
            half.unlink()
        raise


TRANSIENT = (errno.ESTALE, errno.EIO, errno.EACCES, errno.EPERM, errno.EBUSY, errno.ENOTEMPTY, errno.EEXIST)
"""Errors of a rename after which a second try may succeed: on disks of a network, and where others look at the file."""
PAUSES = (0.02, 0.1, 0.4)
"""Seconds before each further try."""
OLD = 3600.0
"""Seconds after which what is half written is swept, where nobody holds its lock."""


def move(source: Path, target: Path) -> None:
    """Rename a file, in the place of another if there is one, or a folder; tried again after a `TRANSIENT` error.

    On another file system it is copied beside the target, synced, and renamed there. Raises the last OSError.
    """
    failed = False
    for pause in (*PAUSES, None):
        try:
            source.replace(target)
        except FileNotFoundError:
            if not (failed and target.exists()):  # else the try before was done, and only its answer was lost
                raise
        except OSError as error:
            if error.errno == errno.EXDEV:
                _move_across(source, target)
            elif pause is None or error.errno not in TRANSIENT:
                raise
            else:
                failed = True
                time.sleep(pause)
                continue
        return


def _move_across(source: Path, target: Path) -> None:
    for old in target.parent.glob(f".{glob.escape(target.name)}.*"):  # what a killed process left
        if is_old(old, OLD):
            _remove(old)
    half = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        if source.is_dir():
            shutil.copytree(source, half)
        else:
            shutil.copy2(source, half)
        for path in (half, *half.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        half.replace(target)
    except BaseException:
        _remove(half)
        raise
    _remove(source)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def is_old(path: Path, seconds: float) -> bool:
    """Whether a file or folder is there and was last changed so many seconds ago."""
    try:
        return seconds <= 0 or time.time() - path.stat().st_mtime >= seconds
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and its entries are written through
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such call
            raise
    finally:
        os.close(descriptor)
