"""A job's process whose runner is a toy: `python tests/toy_worker.py work <job folder>`; TOY_* say what it does.

It stands in for `python -m core` in tests/test_jobs.py, where training a network would only take time.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.jobs import devices, queue, running, spare, turns
from core.progress import Cancelled, Progress
from core.specs import Task, TrainSpec
from core.storage import store
from tests.planted import CARD


def run(spec: Task, root: Path, *, device: str, on_progress: Progress) -> store.Outcome:
    """Count itself, then pass TOY_SECONDS with progress; TOY_MISDEED is what goes wrong at the end."""
    with (root / "runs").open("a") as file:
        file.write(f"{os.getpid()} {os.environ.get('TOY_MARK')} {'torch' in sys.modules}\n")
    if os.name == "posix":
        with (root / "priorities").open("a") as file:
            file.write(f"{os.getpriority(os.PRIO_PROCESS, 0)}\n")
    seconds, misdeed = float(os.environ.get("TOY_SECONDS", "0.2")), os.environ.get("TOY_MISDEED", "")
    sys.stdout.write("a word on standard output\n")
    sys.stdout.flush()
    if misdeed == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (root / "child").write_text(str(child.pid))
    steps = max(1, round(seconds / 0.02))
    for step in range(1, steps + 1):
        time.sleep(0.02)
        on_progress(step, steps, phase="toying", snapshot={"x": np.full(3, step)}, loss=1 / step)
        while misdeed == "hold" and step == steps // 2 and not (root / "release").exists():
            time.sleep(0.02)
            on_progress(step, steps)
    if misdeed == "silent":
        time.sleep(600)
    if misdeed == "greedy":
        sys.stdout.write(str(len(bytearray(6 << 30))))
    if misdeed == "raise":
        raise RuntimeError("the toy is broken")
    if misdeed == "deaf":
        while True:
            try:
                on_progress(steps, steps, phase="deaf")
                time.sleep(0.02)
            except Cancelled:
                (root / "heard").touch()
    if misdeed == "killed in mid-write":
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
    if misdeed == "slow write":
        os.fsync = lambda descriptor: ((root / "writing").touch(), time.sleep(60))
    seed = spec.seed if isinstance(spec, TrainSpec) else 0
    return store.Outcome(card={**CARD, "device": device}, arrays={"weights": {"w": np.full(4, seed)}})


def loaded(task: Task) -> Callable[..., store.Outcome]:
    """The toy; loading it may take for ever, deaf to every signal that can be heard."""
    if os.environ.get("TOY_MISDEED") == "deaf loading":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    return run


def no_flock(*_: object) -> None:
    """A disk without such locks."""
    raise OSError(errno.ENOLCK, "No locks available")


if __name__ == "__main__":
    running.runner_for = loaded
    if "TOY_FLOCK" in os.environ:
        import fcntl

        fcntl.flock = no_flock
    devices.settled = lambda device, *_: device or "cpu"
    turns.CARRIED += ("TOY_",)
    queue._command = lambda folder: [sys.executable, __file__, "work", str(folder)]
    if sys.argv[1] == "work":
        sys.exit(queue.work(Path(sys.argv[2])))
    if sys.argv[1] == "wait":
        if os.environ.get("TOY_MISDEED") == "no torch":
            sys.exit(1)
        spare.IDLE = float(os.environ.get("TOY_IDLE", "60"))
        running.load = lambda: None
        sys.exit(spare.wait(queue.work))
    if sys.argv[1] == "run":  # an asker in a process of its own
        sys.stdout.write(queue.run(TrainSpec(epochs=1), Path(sys.argv[2])).id)
