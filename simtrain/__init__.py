"""simtrain: a discrete-event simulator of large-model training on GPU clusters.

    import simtrain as st

    scenario = st.load("llama2-70b-on-2048-rtx4090", "layout.tp=2")
    step = st.simulate_step(scenario)
    st.report.timeline(step).show()

Names are imported on first use, so that ``import simtrain`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simtrain import errors, quantities, report, schedules
    from simtrain.errors import (
        DeadlockError,
        InputError,
        LayoutError,
        ProgramError,
        QuantityError,
        ScenarioError,
        ScheduleError,
        SimtrainError,
        UnknownNameError,
        UnsupportedError,
    )
    from simtrain.reliability.run import RunReport, simulate_run
    from simtrain.scenario.load import dump, load, load_study, scenario_schema
    from simtrain.scenario.scenario import Scenario, Study
    from simtrain.step.report import StepReport
    from simtrain.step.simulate import simulate_step

__version__ = "0.1.0"

__all__ = [
    "DeadlockError",
    "InputError",
    "LayoutError",
    "ProgramError",
    "QuantityError",
    "RunReport",
    "Scenario",
    "ScenarioError",
    "ScheduleError",
    "SimtrainError",
    "StepReport",
    "Study",
    "UnknownNameError",
    "UnsupportedError",
    "__version__",
    "dump",
    "errors",
    "load",
    "load_study",
    "quantities",
    "report",
    "scenario_schema",
    "schedules",
    "simulate_run",
    "simulate_step",
]

_MODULES = ("errors", "quantities", "report", "schedules")
_HOMES = {
    "dump": "simtrain.scenario.load",
    "load": "simtrain.scenario.load",
    "load_study": "simtrain.scenario.load",
    "scenario_schema": "simtrain.scenario.load",
    "RunReport": "simtrain.reliability.run",
    "Scenario": "simtrain.scenario.scenario",
    "Study": "simtrain.scenario.scenario",
    "StepReport": "simtrain.step.report",
    "simulate_run": "simtrain.reliability.run",
    "simulate_step": "simtrain.step.simulate",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"simtrain.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'simtrain' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "simtrain.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
