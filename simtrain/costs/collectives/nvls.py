"""In-switch reduction (NVLink SHARP): the NVSwitch adds what the GPUs send; all-reduce only.

Its rate is the bus bandwidth measured on a whole node, at which S bytes take 2 (g - 1) / g S / bandwidth;
the time hardly depends on how many of the g GPUs take part.  Between nodes the parts of the GPUs go up and
down a tree over their own NIC (NVLS-tree).
"""

from __future__ import annotations

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage
from simtrain.costs.collectives.traffic import Traffic
from simtrain.costs.collectives.tree import double_tree
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM"]


def _plan(groups: Groups, collective: Collective) -> Plan | None:
    topology, each, nodes = groups.topology, groups.per_node, groups.most_nodes
    gpus, bandwidth = topology.gpus_per_node, topology.nvls_bandwidth
    # NCCL was measured to take the switch from five of eight GPUs on.
    if bandwidth is None or each is None or each == 1 or 2 * each <= gpus:
        return None
    traffic = Traffic(groups)
    # Every GPU sends all it has to the switch once, and gets all of the sum.
    traffic.exchange(groups.local, 1.0 / (each - 1))
    if nodes > 1:
        rails = groups.rails
        child, parent, share = double_tree(nodes)
        for a, b in ((child, parent), (parent, child)):
            traffic.add(rails[:, a].ravel(), rails[:, b].ravel(), share / each)
    stage = Stage(
        "reduction in the switch",
        traffic,
        near_steps=1,
        far_steps=2 * (nodes.bit_length() - 1),
        family="nvls",
        seconds_per_byte=2 * (gpus - 1) / gpus / bandwidth,
        crossings=min(nodes - 1, 2),
    )
    return Plan(
        "nvls" if nodes == 1 else "nvls_tree",
        (stage,),
        protocols=("Simple",),
        formula=f"2 * ({gpus} - 1) / {gpus} * size in the NVSwitch",
    )


ALGORITHM = Algorithm("nvls", ("all_reduce",), _plan, mscclpp=True)
