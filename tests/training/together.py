"""What each of several processes does in `test_parallel`: train in float32; the first writes the weights.

torchrun --nproc-per-node 2 tests/training/together.py FILE
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]


def weights() -> dict[str, Any]:
    """Trained on batches of 51 images and a last one of 33, which two processes cannot share evenly."""
    from core import specs
    from core.data.sets import load
    from core.training import loop

    plain = loop.mixed_precision("cpu")
    plain._enabled = False  # in bfloat16, rounding would hide what is not averaged rightly
    spec = specs.TrainSpec(network="mlp", data=specs.DataSpec(classes=(3, 8, 9)), epochs=2, batch_size=51, average=0.9)
    with mock.patch.object(loop, "mixed_precision", return_value=plain):
        trained = loop.train(spec, load(spec.data))
    return {name: value.contiguous() for name, value in trained.model.state_dict().items()}


def main(out: str) -> None:
    """Train together with the others."""
    import torch
    from safetensors.torch import save_file

    from core.training import parallel

    parallel.join("cpu")
    made = weights()
    if parallel.group().rank == 0:
        save_file(made, out)
    torch.distributed.barrier()
    parallel.leave()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1])
