"""Margins by mixed-integer linear programming: exact for ReLU networks, linf and l1 balls.

A ReLU whose input may have both signs gets a binary variable, and the bounds of that input make the constraints tight
(Tjeng, Xiao, Tedrake 2019, arXiv 1711.07356). Solved by HiGHS; its feasibility tolerance is 1e-6 of each constraint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from scipy.optimize import Bounds as Box
from scipy.optimize import LinearConstraint, milp
from torch import Tensor

from core.certification.ball import Ball
from core.certification.bounds import Known
from core.certification.crown import stem_of
from core.certification.nodes import Graph

INFEASIBLE, SOLVED = 2, 0


@dataclass
class IntegerProgram:
    """Constraints of all values that a network can take on one ball; variables are pixels, ReLU outputs, binaries."""

    low: np.ndarray
    high: np.ndarray
    binary: np.ndarray
    matrix: sparse.csr_matrix
    lower: np.ndarray
    upper: np.ndarray
    outputs: sparse.csr_matrix
    constant: np.ndarray
    pixels: int


def program(graph: Graph, ball: Ball, known: Known) -> IntegerProgram:
    """The constraints for one image.

    Args:
        graph: in float64.
        ball: of one image; linf or l1.
        known: bounds of what every ReLU reads, splits included: values of one sign need no binary variable.

    Raises:
        ValueError: an l2 ball, which no linear programme describes.
    """
    if ball.norm == "l2":
        raise ValueError("norm: expected linf or l1 for linear programming, got 'l2'")
    low, high = [_flat(ball.low)], [_flat(ball.high)]
    pixels = count = len(low[0])
    columns: dict[int, np.ndarray] = {0: np.arange(pixels)}  # of a ReLU's outputs; -1: always 0
    switches: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    rows: list[tuple[sparse.csr_matrix, np.ndarray, np.ndarray]] = []
    for relu in graph.relus:
        parent = graph.nodes[relu].parents[0]
        bottom, top = (_flat(end) for end in known[parent])
        alive = np.flatnonzero(top > 0)
        columns[relu] = np.full(len(top), -1)
        columns[relu][alive] = count + np.arange(len(alive))
        count += len(alive)
        low.append(np.maximum(bottom[alive], 0))
        high.append(top[alive])
        matrix, constant = _expression(graph, parent, columns, alive)
        rows.append((_minus(columns[relu][alive], matrix), constant, np.where(bottom[alive] >= 0, constant, np.inf)))
        torn = bottom[alive] < 0
        switches.append((alive[torn], columns[relu][alive[torn]], bottom[alive[torn]], top[alive[torn]]))
        matrix, constant = matrix[torn], constant[torn]
        rows.append((_minus(columns[relu][alive[torn]], matrix), np.full(len(constant), -np.inf), constant))
    binaries = np.concatenate([switch[0] for switch in switches]) if switches else np.zeros(0)
    start, total = count, count + len(binaries)
    if ball.norm == "l1":
        total += pixels
    built = []
    for place, (matrix, lower, upper) in enumerate(rows):
        built.append((_wide(matrix, total), lower, upper))
        if place % 2:  # the torn ones: a <= z - l (1 - b) and a <= u b
            _, column, bottom, top = switches[place // 2]
            number = np.arange(len(column))
            own = sparse.csr_matrix((-bottom, (number, start + number)), shape=(len(column), total))
            built[-1] = (built[-1][0] + own, lower, upper - bottom)
            both = (np.concatenate([np.ones(len(column)), -top]), (np.tile(number, 2), np.r_[column, start + number]))
            built.append(
                (
                    sparse.csr_matrix(both, shape=(len(column), total)),
                    np.full(len(column), -np.inf),
                    np.zeros(len(column)),
                )
            )
            start += len(column)
    low.append(np.zeros(len(binaries)))
    high.append(np.ones(len(binaries)))
    binary = np.zeros(total, dtype=int)
    binary[count : count + len(binaries)] = 1
    if ball.norm == "l1":
        low.append(np.zeros(pixels))
        high.append(np.ones(pixels))
        built += _l1(ball, total)
    outputs, constant = _expression(graph, len(graph.nodes) - 1, columns, np.arange(graph.nodes[-1].shape[0]))
    return IntegerProgram(
        np.concatenate(low),
        np.maximum(np.concatenate(low), np.concatenate(high)),
        binary,
        sparse.vstack([part[0] for part in built]).tocsr() if built else sparse.csr_matrix((0, total)),
        np.concatenate([part[1] for part in built]) if built else np.zeros(0),
        np.concatenate([part[2] for part in built]) if built else np.zeros(0),
        _wide(outputs, total),
        constant,
        pixels,
    )


def decide(
    made: IntegerProgram, row: Float[Tensor, " k"], floor: float, *, time_limit: float, minimize: bool = False
) -> tuple[bool, np.ndarray | None]:
    """Whether row·logits stays above `floor`, or an image where it does not.

    Returns:
        (True, None): proven. (False, pixels): an image at or below `floor`, the lowest one if `minimize`.
        (False, None): not known within `time_limit` seconds.
    """
    cost = np.asarray(made.outputs.T @ row.cpu().numpy()).ravel()
    constant = float(row.cpu().numpy() @ made.constant)
    below = LinearConstraint(sparse.csr_matrix(cost[None]), -np.inf, floor - constant)
    found = milp(
        cost if minimize else np.zeros_like(cost),
        integrality=made.binary,
        bounds=Box(made.low, made.high),
        constraints=[LinearConstraint(made.matrix, made.lower, made.upper), below],
        options={"time_limit": max(time_limit, 0.01)},
    )
    if found.status == INFEASIBLE:
        return True, None
    return False, None if found.x is None else found.x[: made.pixels]


def _expression(
    graph: Graph, place: int, columns: dict[int, np.ndarray], chosen: np.ndarray
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Some values of a node as a matrix over the variables, and constants."""
    stem, constant = stem_of(graph, place, torch.from_numpy(chosen).to(graph.device))
    width = 1 + max(int(column.max(initial=-1)) for column in columns.values())
    total = sparse.csr_matrix((len(chosen), width))
    for stop, rows in stem.items():
        kept = np.flatnonzero(columns[stop] >= 0)
        part = sparse.coo_matrix(rows.detach().cpu().flatten(1).numpy()[:, kept])
        total = total + sparse.csr_matrix(
            (part.data, (part.row, columns[stop][kept][part.col])), shape=(len(chosen), width)
        )
    return total, constant.detach().cpu().numpy()


def _minus(column: np.ndarray, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Own variable minus expression."""
    width = max(matrix.shape[1], int(column.max(initial=-1)) + 1)
    one = sparse.csr_matrix((np.ones(len(column)), (np.arange(len(column)), column)), shape=(len(column), width))
    return one - _wide(matrix, width)


def _wide(matrix: sparse.csr_matrix, width: int) -> sparse.csr_matrix:
    """The same with columns of zeros to the right."""
    return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], width))


def _l1(ball: Ball, total: int) -> list[tuple[sparse.csr_matrix, np.ndarray, np.ndarray]]:
    """Rows that say t >= |x' - x| and sum of t at most eps; t are the last variables."""
    x = _flat(ball.x)
    n = len(x)
    number = np.arange(n)
    rows = []
    for sign in (1.0, -1.0):
        values = np.r_[np.full(n, sign), np.full(n, -1.0)]
        matrix = sparse.csr_matrix((values, (np.tile(number, 2), np.r_[number, total - n + number])), shape=(n, total))
        rows.append((matrix, np.full(n, -np.inf), sign * x))
    whole = sparse.csr_matrix((np.ones(n), (np.zeros(n, dtype=int), total - n + number)), shape=(1, total))
    return [*rows, (whole, np.array([-np.inf]), np.array([float(ball.eps[0])]))]


def _flat(value: Tensor) -> np.ndarray:
    return value.detach()[0].flatten().cpu().double().numpy()
