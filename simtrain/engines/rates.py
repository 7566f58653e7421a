"""Rates of running operations: written once as array functions that every engine calls.

An operation progresses at its rate: 1 when alone.  Links and SMs are not shared yet, so that every rate is 1;
the engines already ask after every change, and finish an operation when its work at these rates is done.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.program.program import Program

__all__ = ["flow_rates"]


def flow_rates(program: Program, active: NDArray[np.int32]) -> NDArray[np.float64]:
    """Rate of each active transfer, shape of ``active``: its share of the links it crosses."""
    return np.ones(len(active))
