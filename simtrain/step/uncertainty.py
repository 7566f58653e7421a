"""How far a predicted step time may be off: errors of published steps like it.

The table beside this module is written by ``python -m simtrain.validation.calibrate.uncertainty``.  A class of
comparable steps is named by the architecture of the device, the precision of the matmuls, the size of the job and the
kind of model; ``any`` stands for all of them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simtrain.scenario.cluster import Device, Node
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario

__all__ = [
    "ANY",
    "LEAST_PUBLISHERS",
    "LEAST_ROWS",
    "TABLE",
    "Comparable",
    "Spread",
    "Uncertainty",
    "comparable",
    "read_table",
    "uncertainty",
]

TABLE = Path(__file__).with_name("uncertainty.csv")
ANY = "any"
LEAST_ROWS = 5
"""Rows below which a class says too little, so that the next coarser one is taken."""
LEAST_PUBLISHERS = 2
"""Likewise: rows of one publisher do not show how publishers differ."""
_SMALL_JOB = 64
_WIDE = ("bf16", "fp16", "tf32", "fp32")


@dataclass(frozen=True, slots=True)
class Comparable:
    """A class of steps.

    Attributes:
        architecture: of the device, as its document writes it.
        precision: ``16 bit`` (or more) or ``8 bit`` (or less).
        scale: ``one node``, ``up to 64 GPUs`` or ``more``.
        model: ``dense`` or ``experts``.
    """

    architecture: str
    precision: str
    scale: str
    model: str

    def coarser(self) -> Iterator[Comparable]:
        """This class, then ever wider ones: architecture, precision, scale and kind of model fall away in this order.

        The scale stays longer than the architecture: steps of one node say little of those of a cluster.
        """
        parts = astuple(self)
        for dropped in range(len(parts) + 1):
            yield Comparable(*[ANY] * dropped, *parts[dropped:])

    def words(self) -> str:
        """What its steps have in common."""
        known = [part for part in astuple(self) if part != ANY]
        return ", ".join(known) or "all steps"


@dataclass(frozen=True, slots=True)
class Spread:
    """Errors of the published steps of a class, predicted / measured - 1.

    Attributes:
        rows, publishers: how many. bias: mean error. abs_error: 80 % of absolute errors are at most this.
        factor: for 80 % of rows the measured time is between the predicted one over and times this.
    """

    rows: int
    publishers: int
    bias: float
    abs_error: float
    factor: float


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What 80 % of comparable steps measured, relative to their predictions.

    ``low`` and ``high`` hold for the step time and all that is proportional to it or to its inverse: the interval of a
    factor either way.

    Attributes:
        low, high: measured / predicted - 1 at either end.
        bias: mean of predicted / measured - 1. rows, publishers: of the class. of: the class.
    """

    low: float
    high: float
    bias: float
    rows: int
    publishers: int
    of: Comparable

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "low": self.low,
            "high": self.high,
            "bias": self.bias,
            "rows": self.rows,
            "publishers": self.publishers,
            "class": asdict(self.of),
        }


def comparable(scenario: Scenario) -> Comparable:
    """The finest class of a resolved scenario."""
    cluster, node, model = scenario.cluster, scenario.cluster.node, scenario.workload.model
    device = node.device if isinstance(node, Node) else None
    gpus = cluster.nodes * (node.gpus if isinstance(node, Node) else 1)
    few = "one node" if cluster.nodes == 1 else "up to 64 GPUs" if gpus <= _SMALL_JOB else "more"
    return Comparable(
        device.architecture if isinstance(device, Device) else ANY,
        "16 bit" if scenario.layout.precision in _WIDE else "8 bit",
        few,
        "experts" if isinstance(model, Model) and model.moe else "dense",
    )


def uncertainty(scenario: Scenario) -> Uncertainty | None:
    """Of the finest class that holds enough rows; None where not even all rows together are enough."""
    table = _shipped()
    for of in comparable(scenario).coarser():
        spread = table.get(of)
        if spread is not None and spread.rows >= LEAST_ROWS and spread.publishers >= LEAST_PUBLISHERS:
            low, high = 1 / spread.factor - 1, spread.factor - 1
            return Uncertainty(low, high, spread.bias, spread.rows, spread.publishers, of)
    return None


def read_table(path: Path) -> dict[Comparable, Spread]:
    """The classes of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return dict(_line(cells) for cells in csv.DictReader(file))


@cache
def _shipped() -> dict[Comparable, Spread]:
    return read_table(TABLE)


def _line(cells: dict[str, str]) -> tuple[Comparable, Spread]:
    of = Comparable(cells["architecture"], cells["precision"], cells["scale"], cells["model"])
    shares = (float(cells[key]) for key in ("bias", "abs_error", "factor"))
    return of, Spread(int(cells["rows"]), int(cells["publishers"]), *shares)
