"""The pipeline order of a scenario; what its schedule refuses is said in the scenario's own keys."""

from __future__ import annotations

from simtrain import schedules
from simtrain.errors import ScheduleError
from simtrain.layout.parallel import Parallel
from simtrain.scenario.scenario import Scenario
from simtrain.schedules.order import Order
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["pipeline_order"]


def pipeline_order(scenario: Scenario, parallel: Parallel, costs: SlotCosts | None = None) -> Order:
    """The order of a step's micro batches under ``layout.schedule``; ``costs`` are for schedules that search.

    Raises:
        ScheduleError: it does not exist for these sizes.
    """
    layout = scenario.layout
    try:
        return schedules.get(layout.schedule).order(layout.pp, parallel.micro_batches, layout.vpp, costs)
    except ScheduleError as error:
        raise ScheduleError(
            f"layout.schedule = {layout.schedule} with layout.pp = {layout.pp}, layout.vpp = {layout.vpp} and "
            f"{parallel.micro_batches} micro batches (workload.global_batch {scenario.workload.global_batch} / "
            f"dp {parallel.dp} / layout.micro_batch {layout.micro_batch}): {error}"
        ) from None
