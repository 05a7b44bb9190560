"""The command line: `python -m core work <job folder>` is the body of a job's process."""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    if len(arguments) == 2 and arguments[0] == "work":
        from core import jobs

        return jobs.work(Path(arguments[1]))
    print("usage: python -m core work <job folder>", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
