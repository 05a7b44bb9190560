"""The command `dashboard`: start the dashboard's server, from a clone or from an installed package."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from core import access, paths
from core.cli import flags


def dashboard_flags(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Where the server listens."""
    command.add_argument("--port", type=flags.port, default=8501, help="port of the server. Default: 8501.")
    command.add_argument("--address", help="network address to listen on; 0.0.0.0: all. Default: this machine alone.")
    command.add_argument(
        "--public", action="store_true", help="strangers use it: they reach, stop and see less; see docs/server.md"
    )
    command.add_argument("--headless", action="store_true", help="do not open a browser window")


def dashboard(options: dict[str, Any], as_json: bool) -> None:
    """Run `streamlit run dashboard.py` until it is stopped.

    Raises:
        OSError: the server ended by itself, for example because the port is taken; it has printed why.
    """
    status = 0
    with contextlib.suppress(KeyboardInterrupt):
        status = subprocess.run(
            server(options["port"], options["address"], options["headless"], options["public"]),
            env={**os.environ, access.PUBLIC: "1"} if options["public"] else None,
            check=False,
        ).returncode
    if status:
        raise OSError(f"the dashboard's server ended with exit status {status}")


def server(port: int, address: str | None, headless: bool, public: bool = False) -> list[str]:
    """The command line of Streamlit's server."""
    command = [sys.executable, "-m", "streamlit", "run", str(paths.BESIDE / "dashboard.py"), f"--server.port={port}"]
    command += [] if address is None else [f"--server.address={address}"]
    command += ["--server.headless=true"] if headless or public else []
    return command + ([f"--server.maxUploadSize={access.MAX_UPLOAD}"] if public else [])
