"""Dispatch and combine that send a token to each node once: DeepEP's normal kernels.

A token crosses the network once per other node that holds one of its experts, on its own rail to the GPU of equal
position there, which hands it over NVLink to every GPU of that node with one of its experts; inside its own node it
takes NVLink alone.  Combine is the same backwards, sums being formed on the way (DeepSeek-V3, arXiv 2412.19437,
section 3.2.2; deepseek-ai/DeepEP).  Network and NVLink run as one pipeline.
"""

from __future__ import annotations

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM"]

_ROUNDS = 2
"""Counts of tokens are exchanged first (DeepEP, notify_dispatch), then the tokens."""


def _plan(groups: Groups, collective: Collective) -> Plan | None:
    routing, each, nodes = groups.routing, groups.per_node, groups.most_nodes
    if routing is None or each is None or groups.topology.scale_up == "pcie":
        return None
    token_nodes, token_gpus = routing.spread(nodes, groups.size)
    token = 1.0 / routing.top_k
    traffic = Traffic(groups)
    traffic.exchange(groups.rails, token * token_nodes / nodes)
    # Each GPU hands over its own tokens, and those that came in from its equals on the other nodes.
    traffic.exchange(groups.local, token * token_gpus / groups.size * nodes)
    stage = Stage("send and hand over", traffic, near_steps=_ROUNDS, far_steps=_ROUNDS * (nodes > 1))
    return Plan(
        "node_limited",
        (stage,),
        protocols=("Simple",),
        ramped=False,
        formula=(
            f"size / {routing.top_k} for each of {token_nodes * (nodes - 1) / nodes:.3g} other nodes and, over "
            f"NVLink, {token_gpus - token_gpus / each:.3g} GPUs of a token"
        ),
    )


ALGORITHM = Algorithm("node_limited", ("dispatch", "combine"), _plan, ideal=True, preferred=True)
