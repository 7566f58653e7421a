"""Which layouts fit: the largest micro batch, and the nearest layout when one does not.

The peak of a rank follows from the order of its own actions alone, since they run one after another; no engine
is needed.  A test holds it against the peak read from a Timeline.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from simtrain import schedules
from simtrain.costs.step import shard_of
from simtrain.errors import InputError, LayoutError
from simtrain.layout.parallel import plan_parallel
from simtrain.quantities import format_quantity
from simtrain.scenario.cluster import Device, Node
from simtrain.scenario.layout import Layout
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.schedules.cost_driven import CostDriven
from simtrain.step.memory import activations_of, held_bytes, replay_peak
from simtrain.step.order import pipeline_order
from simtrain.step.report import MemoryReport
from simtrain.step.simulate import plan_step

__all__ = ["Advice", "NearestFit", "capacity_bytes", "fit_advice", "largest_micro_batch", "nearest_fit", "peak_bytes"]

_RECOMPUTE = ("none", "selective", "full")


@dataclass(frozen=True, slots=True)
class NearestFit:
    """A layout that fits, and how it differs: ``changes`` as ``--set`` would take them."""

    layout: Layout
    changes: tuple[str, ...]
    peak_bytes: float


def peak_bytes(scenario: Scenario, *, searched: bool = False) -> tuple[float, ...]:
    """Peak of the worst GPU of each pipeline rank, in bytes.

    Args:
        scenario: a resolved scenario.
        searched: let a cost-driven schedule search with this scenario's costs, as a simulated step does; slower.
            Without it the search assumes equal slots.  Other schedules have one order only.
    """
    scenario = scenario.settled()
    parallel = plan_parallel(scenario)
    model = scenario.workload.model
    if not isinstance(model, Model):
        raise LayoutError("workload.model is a name; load the scenario first")
    order = plan_step(scenario).order if searched else pipeline_order(scenario, parallel)
    shard = shard_of(scenario, parallel)
    activations = activations_of(scenario, model, shard, parallel)
    peaks = []
    for actions in order.actions:
        stages = sorted(set(actions[:, 1].tolist()))
        held = held_bytes(scenario, model, parallel, stages, activations)
        peaks.append(held.total + replay_peak(actions, activations))
    return tuple(peaks)


def capacity_bytes(scenario: Scenario) -> float:
    """Memory of one GPU."""
    node = scenario.cluster.node
    if not isinstance(node, Node) or not isinstance(node.device, Device):
        raise LayoutError("cluster.node is a name; load the scenario first")
    return float(node.device.memory)


def largest_micro_batch(scenario: Scenario) -> int:
    """The largest micro batch that fits with everything else unchanged; 0 when none does."""
    parallel = plan_parallel(scenario)
    sequences = scenario.workload.global_batch // parallel.dp
    best = 0
    for micro in (m for m in range(1, sequences + 1) if sequences % m == 0):
        changed = _with(scenario, micro_batch=micro)
        try:
            fits = _fitting_peak(changed) is not None
        except InputError:  # too few micro batches for the schedule
            continue
        if not fits:
            break
        best = micro
    return best


def nearest_fit(scenario: Scenario) -> NearestFit | None:
    """The layout that fits with the smallest change: recompute, micro batch, ZeRO, then wider tp or pp."""
    for changes in itertools.islice(_changes(scenario), 600):
        candidate = _with(scenario, **changes)
        try:
            peak = _fitting_peak(candidate)
        except InputError:
            continue
        if peak is not None:
            typed = tuple(f"layout.{k}={'null' if v is None else v}" for k, v in changes.items())
            return NearestFit(candidate.layout, typed, peak)
    return None


def _fitting_peak(scenario: Scenario) -> float | None:
    """Peak in bytes where the scenario fits; None where it does not."""
    peak = max(peak_bytes(scenario))
    if peak <= capacity_bytes(scenario) and isinstance(schedules.get(scenario.layout.schedule), CostDriven):
        peak = max(peak_bytes(scenario, searched=True))
    return peak if peak <= capacity_bytes(scenario) else None


def _with(scenario: Scenario, **changes: object) -> Scenario:
    layout = Layout.model_validate(scenario.layout.model_dump(mode="json") | changes)
    return scenario.model_copy(update={"layout": layout})


def _changes(scenario: Scenario) -> Iterator[dict[str, object]]:
    """Changes of the layout from the smallest step to the largest."""
    layout = scenario.layout
    recompute = _RECOMPUTE[_RECOMPUTE.index(layout.recompute) :]
    micro = [m for m in range(layout.micro_batch, 0, -1) if layout.micro_batch % m == 0]
    steps = itertools.product(
        enumerate(recompute), enumerate(range(layout.zero, 4)), enumerate(micro), range(5), range(6)
    )
    ranked = sorted(steps, key=lambda s: s[0][0] + s[1][0] + s[2][0] + 1.5 * s[3] + 1.2 * s[4])
    for (_, level), (_, zero), (_, micro_batch), tp, pp in ranked:
        wanted: dict[str, object] = {
            "recompute": level,
            "zero": zero,
            "micro_batch": micro_batch,
            "tp": layout.tp * 2**tp,
            "pp": layout.pp * 2**pp,
        }
        if level != "selective":
            wanted["recompute_modules"] = None
        if pp:
            wanted["layers_per_stage"] = None
        if tp or pp:
            wanted["dp"] = None
        current = layout.model_dump()
        changed = {key: value for key, value in wanted.items() if current[key] != value}
        if changed:
            yield changed


@dataclass(frozen=True, slots=True)
class Advice:
    """What does not fit: the worst rank, when, by how much; and the nearest layout that does."""

    rank: int
    time_s: float
    excess_bytes: float
    peak_bytes: float
    capacity_bytes: float
    nearest: NearestFit | None

    def text(self) -> str:
        """One message."""
        lines = [
            f"Does not fit: pipeline rank {self.rank} peaks at {format_quantity(self.peak_bytes, 'bytes')} "
            f"{format_quantity(self.time_s, 'time')} into the step, {format_quantity(self.excess_bytes, 'bytes')} "
            f"more than the {format_quantity(self.capacity_bytes, 'bytes')} of a GPU."
        ]
        if self.nearest is None:
            lines.append("No layout near this one fits; use more GPUs or a device with more memory.")
        else:
            options = " ".join(f"--set {change}" for change in self.nearest.changes)
            peak = format_quantity(self.nearest.peak_bytes, "bytes")
            lines.append(f"Nearest layout that fits: {options} (peak {peak})")
        return "\n".join(lines)

    def document(self) -> dict[str, object]:
        """As JSON."""
        nearest = self.nearest
        return {
            "rank": self.rank,
            "time_s": self.time_s,
            "excess_bytes": self.excess_bytes,
            "nearest_fit": None
            if nearest is None
            else {"set": list(nearest.changes), "peak_bytes": nearest.peak_bytes},
        }


def fit_advice(scenario: Scenario, memory: MemoryReport) -> Advice:
    """Advice for a scenario whose memory report does not fit."""
    rank = max(range(len(memory.peak_bytes)), key=lambda r: memory.peak_bytes[r])
    peak = memory.peak_bytes[rank]
    return Advice(
        rank=rank,
        time_s=memory.peak_time_s[rank],
        excess_bytes=peak - memory.capacity_bytes,
        peak_bytes=peak,
        capacity_bytes=memory.capacity_bytes,
        nearest=nearest_fit(scenario),
    )
