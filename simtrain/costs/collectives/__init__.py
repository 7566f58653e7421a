"""Seconds of collectives over the cluster graph: one file per algorithm, the cheapest is taken as NCCL does."""

from __future__ import annotations

from simtrain.costs.collectives.flows import Flows, Phase
from simtrain.costs.collectives.price import CollectivePrice, price
from simtrain.model.routing import Routing

__all__ = ["CollectivePrice", "Flows", "Phase", "Routing", "price"]
