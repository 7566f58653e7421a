"""Fits the coefficients of collectives to published times, and writes them where they live.

    python -m simtrain.validation.calibrate.collectives [--check]

Fitted are ``fill`` of the kinds of box in ``topologies/nodes``, ``network_software`` of two networks, and in
``costs/collectives/coefficients.yaml`` the size up to which pipelines fill more slowly and the time of a host to launch
a collective.  All combinations of a grid are tried; the least mean absolute error of the rows that count in the score
wins, the first among equals.  Beside that error stands that of rows whose whole system the fit did not see.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from simtrain.costs.collectives.price import Offer, offers
from simtrain.costs.collectives.protocol import COEFFICIENTS, COEFFICIENTS_FILE
from simtrain.errors import InputError
from simtrain.scenario import library
from simtrain.validation.collectives import (
    CollectiveCase,
    case,
    launched_one_by_one,
    measured_collectives,
    score_time_us,
    topology_of,
)
from simtrain.validation.hardware import cluster_of
from simtrain.validation.table import read_table

__all__ = ["Fit", "fit", "held_out", "main", "samples"]

Floats = NDArray[np.float64]

BOXES = {
    "A100": ("dgx-a100", "dgx-a100-40gb", "hgx-a800"),
    "Hopper": ("hgx-h100", "hgx-h200", "hgx-h800", "hgx-h20", "4xgh200"),
    "B200": ("hgx-b200", "hgx-b200-ib", "hgx-b300"),
    "NVL72": ("gb200-nvl72", "gb300-nvl72"),
}
"""Nodes that share a ``fill``."""
NETWORKS = {"EFA": ("hgx-b200",), "Slingshot": ("4xgh200",)}
"""Nodes that share a ``network_software``."""
FILL_US = (
    0,
    2,
    4,
    6,
    8,
    10,
    12,
    14,
    16,
    18,
    20,
    25,
    30,
    35,
    40,
    45,
    50,
    55,
    60,
    65,
    70,
    75,
    80,
    90,
    100,
    120,
    150,
    175,
    200,
)
NETWORK_US = tuple(range(0, 155, 5))
RAMP_BYTES = (1e6, 2e6, 4e6, 8e6, 16e6, 32e6)
LAUNCH_US = tuple(range(20, 61, 2))
_USUAL = 25.0
"""Fill in us of a box without measurements; such a network has no software of its own."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One scored row.

    Attributes:
        system: what it was measured on. box, network: keys of :data:`BOXES` and :data:`NETWORKS`, or empty.
        ratio: predicted over measured without launch, (RAMP_BYTES, FILL_US, NETWORK_US or 1).
        launch: measured microseconds where a host launches each by itself, else 0.
    """

    system: str
    box: str
    network: str
    ratio: Floats
    measured_us: float
    launched: bool

    def errors(self, launch_us: float) -> Floats:
        """Absolute errors, shape of ``ratio``."""
        least = launch_us / self.measured_us if self.launched else 0.0
        found: Floats = np.abs(np.maximum(self.ratio, least) - 1)
        return found


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients: fill_us by box, network_us by network, bytes and launch; error: mean absolute, of its rows."""

    fill_us: dict[str, float]
    network_us: dict[str, float]
    ramp_bytes: float
    launch_us: float
    error: float

    def errors(self, rows: Sequence[Sample]) -> Floats:
        """Absolute errors of rows that need not be those of the fit."""
        ramp = RAMP_BYTES.index(self.ramp_bytes)
        found = []
        for row in rows:
            fill = FILL_US.index(round(self.fill_us.get(row.box, _USUAL)))
            network = NETWORK_US.index(round(self.network_us.get(row.network, 0.0))) if row.network else 0
            found.append(row.errors(self.launch_us)[ramp, fill, network])
        return np.array(found)


def samples(path: Path) -> list[Sample]:
    """Scored rows of a table that can be predicted, with their errors all over the grid."""
    found = []
    for row in read_table(path, ("system", "device", "collective", "bytes", "time_us")):
        measured_us = score_time_us(row)
        if measured_us is None:
            continue
        try:
            found.append(_sample(row["system"], case(row), measured_us))
        except InputError:
            continue
    return found


def _sample(system: str, found: CollectiveCase, measured_us: float) -> Sample:
    topology = topology_of(found.hardware)
    name = _library_name(found)
    box, network = (next((k for k, of in kinds.items() if name in of), "") for kinds in (BOXES, NETWORKS))
    if topology.nodes == 1:
        network = ""
    softwares = [us * 1e-6 for us in NETWORK_US] if network else [topology.network_software_s]
    ratio = np.empty((len(RAMP_BYTES), len(FILL_US), len(softwares)))
    for k, software_s in enumerate(softwares):
        changed = replace(topology, network_software_s=software_s, cache={})
        _, choice = offers(changed, found.collective, found.members, found.mode)
        for (i, ramp), (j, fill) in product(enumerate(RAMP_BYTES), enumerate(FILL_US)):
            ratio[i, j, k] = _time_s(choice, found.size_bytes, ramp, fill * 1e-6) * 1e6 / measured_us
    return Sample(system, box, network, ratio, measured_us, launched_one_by_one(found))


def _time_s(choice: Sequence[Offer], size_bytes: float, ramp_bytes: float, fill_s: float) -> float:
    fitted = replace(COEFFICIENTS, ramp_bytes_per_gpu=ramp_bytes)
    return min(_filled(offer, fill_s).time_s(size_bytes, fitted) for offer in choice)


def _filled(offer: Offer, fill_s: float) -> Offer:
    """The offer in a box of another fill."""
    stages = tuple(replace(stage, fill_s=fill_s if stage.fill_s else 0.0) for stage in offer.stages)
    return replace(offer, stages=stages)


def _library_name(found: CollectiveCase) -> str:
    """The library's node that the row's cluster was made of."""
    title = getattr(cluster_of(found.hardware).node, "title", "")
    return next((n for n in library.names("node") if library.read(library.find("node", n))["title"] == title), "")


def fit(rows: Sequence[Sample]) -> Fit:
    """The best point of the grid."""
    best: Fit | None = None
    for launch_us in LAUNCH_US:
        errors = [row.errors(launch_us) for row in rows]
        for ramp, ramp_bytes in enumerate(RAMP_BYTES):
            tried = _best_boxes(rows, [each[ramp] for each in errors], ramp_bytes, launch_us)
            if best is None or tried.error < best.error - 1e-12:
                best = tried
    if best is None:
        raise InputError("no rows to fit to")
    return best


def _best_boxes(rows: Sequence[Sample], errors: Sequence[Floats], ramp_bytes: float, launch_us: float) -> Fit:
    """The best fills and networks; ``errors`` of each row are (FILL_US, NETWORK_US or 1)."""
    fills: dict[str, float] = {}
    networks: dict[str, float] = {}
    total = 0.0
    for box in ("", *BOXES):
        own = [(row, each) for row, each in zip(rows, errors, strict=True) if row.box == box]
        if not own:
            continue
        by_network = {
            n: np.sum([each for row, each in own if row.network == n], axis=0) for n in {row.network for row, _ in own}
        }
        by_fill = np.sum([each.min(axis=1) for each in by_network.values()], axis=0)
        at = int(by_fill.argmin()) if box else FILL_US.index(round(_USUAL))
        total += float(by_fill[at])
        if box:
            fills[box] = float(FILL_US[at])
        networks |= {n: float(NETWORK_US[int(each[at].argmin())]) for n, each in by_network.items() if n}
    return Fit(fills, dict(sorted(networks.items())), ramp_bytes, float(launch_us), total / len(rows))


def held_out(rows: Sequence[Sample]) -> dict[str, float]:
    """Mean absolute error of each system by a fit to all others."""
    found = {}
    for system in sorted({row.system for row in rows}):
        seen, unseen = ([row for row in rows if (row.system == system) == out] for out in (False, True))
        found[system] = float(fit(seen).errors(unseen).mean())
    return found


def _documents(found: Fit) -> dict[Path, str]:
    """Files with the coefficients in them, as they should be."""
    values = {"ramp_bytes_per_gpu": found.ramp_bytes, "host_launch_s": found.launch_us * 1e-6}
    texts = {COEFFICIENTS_FILE: _written(COEFFICIENTS_FILE, {k: f"{v:.1e}" for k, v in values.items()})}
    changes: dict[str, dict[str, str]] = {}
    for key, kinds, figures in (("fill", BOXES, found.fill_us), ("network_software", NETWORKS, found.network_us)):
        for kind, figure in figures.items():
            for name in kinds[kind]:
                changes.setdefault(name, {})[key] = f"{figure:g} us"
    return texts | {(path := library.find("node", name)): _written(path, of) for name, of in changes.items()}


def _written(path: Path, values: Mapping[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        text, times = re.subn(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.MULTILINE)
        if times != 1 or key not in yaml.safe_load(text):
            raise InputError(f"{path}: needs one line {key}")
    return text


def main(arguments: Sequence[str]) -> int:
    """Fit, print errors, and write files; with --check only say whether they are as fitted (status 1 if not)."""
    rows = samples(measured_collectives())
    found = fit(rows)
    unseen = held_out(rows)
    print(f"fill {found.fill_us} us, network software {found.network_us} us")
    print(f"ramp up to {found.ramp_bytes / 1e6:g} MB per GPU, launch {found.launch_us:g} us")
    print(f"{len(rows)} rows, mean absolute error {found.error:.4f}")
    for system, error in unseen.items():
        own = [row for row in rows if row.system == system]
        print(f"{system}: {len(own)} rows, fitted {found.errors(own).mean():.4f}, left out {error:.4f}")
    weights = [sum(row.system == system for row in rows) for system in unseen]
    print(f"systems left out: {np.average(list(unseen.values()), weights=weights):.4f}")
    stale = {path: text for path, text in _documents(found).items() if text != path.read_text(encoding="utf-8")}
    if "--check" in arguments:
        print("up to date" if not stale else f"differ: {', '.join(path.name for path in stale)}")
        return int(bool(stale))
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
