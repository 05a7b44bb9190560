"""The body of a local process that runs shards: a step comes as a line of JSON on standard input, its answer goes back.

It ends when its standard input does: the process that asks has ended, however it did.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading


def serve() -> int:
    """Do steps (`piece.do`) until there are no more; the exit status."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints goes to the log, not between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks, which ends this one
    steps: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(steps,), daemon=True).start()
    from core.jobs.shards import piece

    piece.hold_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    while True:
        answer = piece.do(json.loads(steps.get()))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _listen(steps: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        steps.put(line)
    os._exit(0)  # in the middle of a step as well
