"""Point to point: GPU pairs that send at the same time."""

from __future__ import annotations

import numpy as np

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage
from simtrain.costs.collectives.protocol import COEFFICIENTS
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM"]


def _alone(topology: Topology, far: bool) -> float:
    """Least seconds per byte of a single send, which does not fill a NIC."""
    if not far or topology.fabric is None:
        return 0.0
    nic = topology.fabric.nic_link
    return 1.0 / float(nic.bandwidth * nic.efficiency * COEFFICIENTS.send_share)


def _plan(groups: Groups, collective: Collective) -> Plan:
    far = groups.most_nodes > 1
    traffic = Traffic(groups)
    traffic.add(groups.members[:, 0], groups.members[:, 1], 1.0, np.arange(len(groups.members)))
    return Plan(
        "send_recv",
        (
            Stage(
                "send",
                traffic,
                near_steps=int(not far),
                far_steps=int(far),
                seconds_per_byte=_alone(groups.topology, far),
            ),
        ),
        protocols=("LL", "Simple"),
        formula="size over each pair's route",
        ramped=False,
    )


ALGORITHM = Algorithm("send_recv", ("send_recv",), _plan, ideal=True)
