"""Times of collectives against a table of measured ones (``data/collectives_measured.csv`` and files of its format).

A row's hardware becomes a cluster (:func:`simtrain.validation.hardware.cluster_of`), its GPUs one group with as many on
each box, and its collective is priced as in a step.  What the measuring harness adds is here and not there: NCCL's
collectives are launched from the host one by one, and no faster than that goes.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.build import build
from simtrain.cluster.topology import Topology
from simtrain.costs.collectives import price
from simtrain.costs.collectives.protocol import COEFFICIENTS
from simtrain.errors import InputError, nearest
from simtrain.model.operators import Collective
from simtrain.validation.errors_of import ErrorFigures, error_figures
from simtrain.validation.hardware import HardwareColumns, cluster_of
from simtrain.validation.table import read_table

__all__ = [
    "COLUMNS",
    "CollectiveCase",
    "CollectiveReport",
    "CollectiveRow",
    "case",
    "launched_one_by_one",
    "measured_collectives",
    "predict_collectives",
    "score_time_us",
    "topology_of",
]

COLUMNS = (
    "device",
    "gpus_per_node",
    "nodes",
    "gpus",
    "scale_up_domain",
    "intra_link",
    "intra_unidir_gbs_per_gpu",
    "nics_per_node",
    "nic_gbps",
    "collective",
    "bytes",
    "library",
)
"""What a prediction reads."""
_MODES = {"": "nccl", "nccl": "nccl", "rccl": "nccl", "msccl++": "mscclpp", "mscclpp": "mscclpp"}
"""How a library is priced, by the first word of its name."""
_SCORED_LIBRARIES = ("NCCL", "MSCCL++")
_LEAST_SCORED_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class CollectiveCase:
    """What a row says was run.

    Attributes:
        hardware: of all boxes that take part. boxes, gpus: how many of them take part.
        size_bytes: in the convention of nccl-tests. mode: of :func:`simtrain.costs.collectives.price`.
    """

    hardware: HardwareColumns
    boxes: int
    gpus: int
    collective: Collective
    size_bytes: float
    mode: str

    @property
    def members(self) -> NDArray[np.int64]:
        """(1, GPUs) the group: as many GPUs on each box, from the first on."""
        each = np.arange(self.gpus // self.boxes)
        return (np.arange(self.boxes)[:, None] * self.hardware.gpus_per_node + each).reshape(1, -1)


@dataclass(frozen=True, slots=True)
class CollectiveRow:
    """One data row, counted from 0 without the header.

    Attributes:
        status: whether it was predicted; reason: why not, else empty.
        group: "collective system-class". predicted_time_us, measured_time_us, error (predicted / measured - 1): None
            where there is none; only rows that count in the score have a measured time.
        algorithm, protocol: what was chosen.
    """

    index: int
    group: str
    status: Literal["predicted", "skipped"]
    reason: str
    predicted_time_us: float | None
    measured_time_us: float | None
    error: float | None
    algorithm: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class CollectiveReport:
    """Rows in the order of the file, figures of each group of them, and of all."""

    rows: tuple[CollectiveRow, ...]
    groups: dict[str, ErrorFigures]
    total: ErrorFigures


def measured_collectives() -> Path:
    """The table of published times that coefficients are fitted to."""
    return Path(str(files("simtrain.validation") / "data" / "collectives_measured.csv"))


def predict_collectives(path: str | Path) -> CollectiveReport:
    """Predict every row of a CSV file; columns other than :data:`COLUMNS` only enter the errors.

    Raises:
        ScenarioError: the file cannot be read, or lacks the columns device, collective and bytes.
    """
    table = read_table(path, ("device", "collective", "bytes"))
    rows = tuple(_row(index, row) for index, row in enumerate(table))
    grouped: dict[str, list[CollectiveRow]] = defaultdict(list)
    for row in rows:
        grouped[row.group].append(row)
    return CollectiveReport(rows, {name: _figures(of) for name, of in sorted(grouped.items())}, _figures(rows))


def case(row: Mapping[str, str]) -> CollectiveCase:
    """What a row says was run.

    Raises:
        InputError: it cannot be priced, and why.
    """
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    mode, collective = _mode(values["library"]), values["collective"]
    if collective not in get_args(Collective):
        close = nearest(collective, get_args(Collective))
        raise InputError(f"collective {collective!r} is unknown" + (f"; nearest is {close!r}" if close else ""))
    if not values["device"]:
        raise InputError("device is not stated")
    gpus = _count(values, "gpus")
    per_box, boxes = _count(values, "gpus_per_node", min(gpus, 8)), _count(values, "nodes", 1)
    if gpus % boxes or gpus // boxes > per_box:
        raise InputError(f"gpus = {gpus} do not spread evenly over nodes = {boxes} of gpus_per_node = {per_box}")
    hardware = HardwareColumns(
        device=values["device"],
        gpus=boxes * per_box,
        gpus_per_node=per_box,
        scale_up_domain=_count(values, "scale_up_domain", 1),
        intra_link=values["intra_link"].lower() or None,
        intra_unidir_gbs_per_gpu=_figure(values, "intra_unidir_gbs_per_gpu"),
        nics_per_node=round(_figure(values, "nics_per_node") or 0) or None,
        nic_gbps=_figure(values, "nic_gbps"),
    )
    size_bytes = _figure(values, "bytes")
    if size_bytes is None:
        raise InputError("bytes is not stated")
    return CollectiveCase(hardware, boxes, gpus, cast("Collective", collective), size_bytes, mode)


def _mode(library: str) -> str:
    """How a library is priced."""
    name = re.split(r"[^a-z+]", library.lower())[0]
    if name in ("deepep", "uccl"):
        raise InputError(f"library {library!r}: its exchanges follow a routing of tokens, which no column gives")
    if name not in _MODES:
        raise InputError(f"library {library!r} is not modelled; those that are: NCCL, RCCL, MSCCL++")
    return _MODES[name]


@lru_cache(maxsize=64)
def topology_of(hardware: HardwareColumns) -> Topology:
    """The built cluster of a row.

    Raises:
        InputError: no such device, or sizes that cannot be.
    """
    return build(cluster_of(hardware))


def launched_one_by_one(found: CollectiveCase) -> bool:
    """Whether a host launches each of them by itself: NCCL's collectives in nccl-tests and PyTorch.

    Sends are timed on the device, and MSCCL++ is measured in CUDA graphs.
    """
    return found.mode == "nccl" and found.collective != "send_recv"


def score_time_us(row: Mapping[str, str]) -> float | None:
    """Microseconds measured of a row that counts in the score, else None.

    Those are rows of kind ``measured`` with a time, of NCCL or MSCCL++, 1 MiB and more, with known NICs where there
    are several nodes.
    """
    try:
        many = _count(row, "nodes", 1) > 1
        time_us, size, nic = (_figure(row, key) for key in ("time_us", "bytes", "nic_gbps"))
    except InputError:
        return None
    counts = (row.get("kind") or "measured") == "measured" and row.get("library") in _SCORED_LIBRARIES
    large = size is not None and size >= _LEAST_SCORED_BYTES
    return time_us if counts and large and (nic or not many) else None


def _row(index: int, row: Mapping[str, str]) -> CollectiveRow:
    group = f"{(row.get('collective') or '').strip()} {_system_class(row)}"
    measured_us = score_time_us(row)
    try:
        found = case(row)
        cost = price(topology_of(found.hardware), found.collective, found.members, found.size_bytes, mode=found.mode)
    except InputError as error:
        return CollectiveRow(index, group, "skipped", str(error), None, measured_us, None)
    time_s = max(cost.time_s, COEFFICIENTS.host_launch_s) if launched_one_by_one(found) else cost.time_s
    error_of = time_s * 1e6 / measured_us - 1 if measured_us else None
    return CollectiveRow(
        index, group, "predicted", "", time_s * 1e6, measured_us, error_of, cost.algorithm, cost.protocol
    )


def _system_class(row: Mapping[str, str]) -> str:
    """What the GPUs talk over: the link of the box, and the network where there are several."""
    link = (row.get("intra_link") or "unknown link").strip().lower()
    try:
        per_box, boxes = _count(row, "gpus_per_node", 8), _count(row, "nodes", 1)
        domain = max(_count(row, "scale_up_domain", 1), per_box)
    except InputError:
        return f"{link}, size unknown"
    return f"{link} {'rack' if domain > 8 else 'box'}" + (" and network" if per_box * boxes > domain else "")


def _count(values: Mapping[str, str], key: str, default: int | None = None) -> int:
    """A whole number above 0."""
    figure = _figure(values, key)
    if figure is None and default is not None:
        return default
    if figure is None or figure != int(figure):
        raise InputError(f"{key} = {values.get(key) or ''!r} must be a whole number")
    return int(figure)


def _figure(values: Mapping[str, str], key: str) -> float | None:
    """A number above 0; None where the cell is empty or 0."""
    text = (values.get(key) or "").strip()
    try:
        value = float(text or 0)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{key} = {text!r} must be a number that is not negative")
    return value or None


def _figures(rows: Iterable[CollectiveRow]) -> ErrorFigures:
    rows = list(rows)
    pairs = [(r.predicted_time_us, r.measured_time_us) for r in rows if r.predicted_time_us and r.measured_time_us]
    return error_figures(len(rows), sum(r.status == "predicted" for r in rows), pairs)
