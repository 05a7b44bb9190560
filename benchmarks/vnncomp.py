"""Networks and properties of a verification competition (VNN-COMP), instance by instance beside what tools published.

The folder has the competition's files: networks (.onnx), properties (.vnnlib), a list of instances
(`*instances.csv`: network, property, seconds) and, for the comparison, `published.csv` (year, tool, net, property,
verdict, seconds).
"""

from __future__ import annotations

import csv
import math
import time
from collections import Counter, defaultdict
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from core.certification.exact import verify
from core.data.vnnlib import Property, read_property
from core.networks.framed import Framed
from core.networks.onnx_network import OnnxNetwork
from core.specs import Framing

WORDS = {"holds": "unsat", "unsat": "unsat", "violated": "sat", "sat": "sat"}
OURS = {"proven": "unsat", "fooled": "sat", "unknown": "unknown"}


def published(folder: Path, year: str) -> dict[tuple[str, str], dict[str, str]]:
    """For each network and property what each tool of one year said, in the competition's words."""
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    if (folder / "published.csv").is_file():
        with (folder / "published.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                verdict = WORDS.get(row["verdict"].strip().lower())
                if row["year"] == year and verdict:
                    found[row["net"], row["property"]][row["tool"]] = verdict
    return found


def decide(model: nn.Module, given: Property, shape: tuple[int, ...], limit: float) -> tuple[str, str]:
    """Our verdict and what gave it; an image that fools is cut to the box and read again."""
    x, eps = given.ball(shape)
    if given.rivals != tuple(k for k in range(given.outputs) if k != given.label):
        raise ValueError("property: expected all other classes as rivals, got some")
    answer = verify(model, x, torch.tensor([given.label]), eps, time_limit=limit)
    verdict = OURS[str(answer.verdict[0])]
    if verdict == "sat":
        ends = [end.view(1, *shape) for end in (given.low, given.high)]
        image = answer.x_adv.double().clamp(*ends).float()
        if int(model(image).argmax(1)) == given.label:
            return "unknown", "an image that fools beside the box"
    return verdict, str(answer.found_by[0])


def compare(folder: Path, limit: float, year: str, only: list[str]) -> None:
    """Print each instance and the sums."""
    said, rows = published(folder, year), []
    models: dict[str, Framed] = {}
    (listed,) = folder.glob("*instances.csv")
    print("network  property  ours  by  CPU s  published  contradiction", flush=True)
    for name, about, _ in csv.reader(listed.read_text(encoding="utf-8").splitlines()):
        if only and not any(part in name for part in only):
            continue
        if name not in models:
            network = OnnxNetwork((folder / name).read_bytes())
            models[name] = Framed(network, Framing(shape=network.takes)).eval().requires_grad_(False)
        begun, takes = time.process_time(), models[name].body.takes
        shape = takes if len(takes) == 3 else (1, 1, math.prod(takes))
        verdict, by = decide(models[name], read_property(folder / about), shape, limit)
        took, others = time.process_time() - begun, Counter(said[name, about].values())
        against = verdict in WORDS.values() and any(other != verdict for other in others)
        rows.append((name, verdict, against))
        words = ", ".join(f"{count} {word}" for word, count in sorted(others.items())) or "none"
        print(f"{name}  {about}  {verdict}  {by or '-'}  {took:.1f}  {words}  {'YES' if against else 'no'}", flush=True)
    tools = sorted({tool for verdicts in said.values() for tool in verdicts})
    table = []
    for name in [*models, "all"]:
        mine = [row for row in rows if name in ("all", row[0])]
        counts = Counter(row[1] for row in mine)
        ours = counts["unsat"] + counts["sat"], counts["unsat"], counts["sat"], sum(row[2] for row in mine)
        theirs = [sum(tool in said[key] for key in said if name in ("all", key[0])) for tool in tools]
        table.append([name, len(mine), *ours, *theirs])
    heads = ["network", "instances", "decided", "unsat", "sat", "contradictions", *(f"{tool} {year}" for tool in tools)]
    print(tabulate(table, heads))
