"""PXN: an all-to-all that hands over inside the node what another GPU's NIC sends on its own rail.

Everything for a position goes over NVLink to the local GPU of that position, which sends it to its equal on the other
nodes, so that nothing crosses rails.  NCCL does it message by message: both levels run at once and the slowest
link decides (NVIDIA, Doubling all2all performance with NCCL 2.12, 2022).
"""

from __future__ import annotations

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM"]


def _plan(groups: Groups, collective: Collective) -> Plan | None:
    each, nodes = groups.per_node, groups.most_nodes
    if each is None or each == 1 or nodes == 1 or groups.topology.scale_up == "pcie":
        return None
    traffic = Traffic(groups)
    traffic.exchange(groups.local, 1.0 / each)
    traffic.exchange(groups.rails, 1.0 / nodes)
    return Plan(
        "pxn",
        (Stage("hand over and send", traffic, each - 1, groups.size - each, family="exchange"),),
        protocols=("LL", "Simple"),
        formula=f"size: ({each} - 1) / {each} inside, ({nodes} - 1) / {nodes} between nodes",
    )


ALGORITHM = Algorithm("pxn", ("all_to_all", "dispatch", "combine"), _plan, mscclpp=True)
