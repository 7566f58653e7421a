"""``simtrain schema``: the JSON Schema of a scenario, for editors."""

from __future__ import annotations

from simtrain.cli.options import Json, print_json

__all__ = ["schema"]


def schema(json: Json = False) -> None:
    """Print the JSON Schema of a scenario, for editors.

    It is always JSON; --json changes nothing.
    """
    from simtrain.scenario.load import scenario_schema

    print_json(scenario_schema())
