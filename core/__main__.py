"""The command line, made from the specs: `python -m core COMMAND --help`; `python -m core --help` lists the commands.

An installed package has the same under the name `adversarial-lab`.

Flags are the specs' fields. Results go to standard output (`--json`: as JSON), progress and errors to standard error;
exit status 0, or 2 for a request that is refused, or 1 for one that fails, or 3 for a result that is below what a gate
asks for (`--fail-under`). The commands are in `core.cli`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from core.certification.false_proof import FalseProof
from core.cli import gate
from core.cli.parser import COMMANDS, parser
from core.data.folder import DataMissing
from core.jobs import devices
from core.jobs.shards import engines
from core.specs import explain
from core.storage.store import DamagedArtifact


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if len(arguments) == 2 and arguments[0] == "work":  # the body of a job's process, started by core.jobs.queue
        if not (Path(arguments[1]) / "spec.json").is_file():
            print(f"work: expected the folder of a job, got {arguments[1]!r}", file=sys.stderr)
            return 2
        from core.jobs import queue

        return queue.work(Path(arguments[1]))
    if arguments == ["wait"]:  # a process that waits for a job, started by core.jobs.spare
        from core.jobs import queue, spare

        return spare.wait(queue.work)
    if arguments == ["shards"]:  # a process that runs shards, started by core.jobs.shards.local
        from core.jobs.shards import serve

        return serve.serve()
    options = vars(parser(arguments).parse_args(arguments))
    command, as_json = options.pop("command"), options.pop("json")
    try:
        with engines.on(options.pop("on", None)):
            COMMANDS[command].run(options, as_json)
    except ValidationError as error:
        print(explain(error), file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except gate.Failed as failed:
        print(failed, file=sys.stderr)
        return 3
    except BrokenPipeError:  # whoever read has enough, as `head` does; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (DataMissing, DamagedArtifact, engines.EngineError, FalseProof, FloatingPointError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not devices.is_full(error):
            raise
        print(devices.FULL, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped; a training, an evaluation, a radii run or one in shards resumes when you start it again",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
