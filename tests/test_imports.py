"""What importing costs: the command line and the public names load heavy libraries only when used."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import simtrain

HEAVY = ("numpy", "networkx", "plotly", "numba", "simpy", "pydantic")


def _loaded(statement: str) -> set[str]:
    """Modules in memory after a statement in a fresh interpreter."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import simtrain", "import simtrain.cli.main"])
def test_start_up_loads_nothing_heavy(statement):
    assert _loaded(statement).isdisjoint(HEAVY)


def test_reading_a_scenario_loads_pydantic_alone():
    assert _loaded("import simtrain; simtrain.load").intersection(HEAVY) == {"pydantic"}


@pytest.mark.parametrize("name", simtrain.__all__)
def test_every_public_name_exists(name):
    assert getattr(simtrain, name) is not None
    assert name in dir(simtrain)


@pytest.mark.parametrize("name", ["schedules", "report", "errors", "quantities"])
def test_rooms_are_reached_through_the_package(name):
    assert isinstance(getattr(simtrain, name), ModuleType)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'simulate_stepp'"):
        simtrain.simulate_stepp  # noqa: B018
