"""Fits the coefficients of training steps to published step times, and prints them beside those in use.

    python -m simtrain.validation.calibrate.steps

The fit of ``simtrain validate --leave-one-out`` with nobody left out (:mod:`simtrain.validation.leave_out`): linear
around the values in use, from no knowledge.  Counts of a profile are whole numbers that a person sets, so nothing is
written; a value far from the fitted one wants another look.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from simtrain.importers.model_table import read_models
from simtrain.validation.leave_out import Slopes, fitted, independent_rows, slopes_of
from simtrain.validation.steps import in_processes, measured_models, measured_steps

__all__ = ["main", "table"]


def table(slopes: Sequence[Slopes]) -> str:
    """Coefficients in use and fitted, and how many rows tell of each."""
    found = fitted(slopes, slopes)
    used = {key: value for one in slopes for key, value in one.values.items()}
    rows = [sum(bool(one.per_unit_s.get(key)) for one in slopes) for key in sorted(used)]
    lines = ["| coefficient | of | in use | fitted | rows |", "|---|---|---|---|---|"]
    for (kind, owner), count in zip(sorted(used), rows, strict=True):
        lines.append(f"| {kind} | {owner} | {used[kind, owner]:.3g} | {found[kind, owner]:.3g} | {count} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] = ()) -> int:
    """Simulate every row with every coefficient changed (minutes), fit, and print."""
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    rows, shapes = independent_rows(measured_steps(), measured_models()), read_models(measured_models())
    print(table(list(in_processes(rows, shapes, 0, slopes_of))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
