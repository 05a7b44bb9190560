"""All answers to a question, for every target and every ε, as one file: the browser fetches it once, then asks no more.

A file is JSON in gzip, frames as `answers` draws them by `target|place`. The newest are kept here; those of what the
playground opens with lie with the program (`opening`).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit import runtime

from ui.playground.recent import Recent

FOLDER = Path(__file__).with_name("packs")
"""Files that lie with the program, by the digest of their question."""
made = Recent(60)
"""Files that were made of late, some hundred kilobytes each."""


def get(digest: str) -> bytes | None:
    """The file of a question, or None where there is none yet."""
    found: bytes | None = made.get(digest)
    return _shipped(digest) if found is None else found


@lru_cache(maxsize=60)
def _shipped(digest: str) -> bytes | None:
    try:
        return (FOLDER / f"{digest}.json.gz").read_bytes()
    except OSError:  # an install without it only waits longer
        return None


def frames(digest: str) -> Mapping[str, Any] | None:
    """What is in the file of a question, or None where there is none."""
    return None if get(digest) is None else _read(digest)


@lru_cache(maxsize=8)
def _read(digest: str) -> Mapping[str, Any]:
    content = get(digest)
    found: Mapping[str, Any] = {} if content is None else json.loads(gzip.decompress(content))
    return found


def put(digest: str, found: Mapping[str, Any]) -> None:
    """Make the file of a question; the same frames make the same bytes."""
    made.put(digest, gzip.compress(json.dumps(found, separators=(",", ":")).encode(), 6, mtime=0))


def address(digest: str, place: str) -> str:
    """Where this server serves the file, held as long as the session shows it at this `place`; empty without a file."""
    content = get(digest)
    if content is None or not runtime.exists():
        return ""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    url = runtime.get_instance().media_file_mgr.add(content, "application/gzip", place)
    return f"/{base}{url}" if base else url


def forget() -> None:
    """Forget what was made."""
    made.clear()
    _read.cache_clear()
    _shipped.cache_clear()
