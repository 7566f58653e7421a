"""Which GPU each rank sits on, and the groups that communicate.

GPUs are numbered node by node.  ``rank_order`` names the axes from the fastest-varying to the slowest:
``tp-cp-dp-pp`` is Megatron-LM's default order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simtrain.layout.parallel import Parallel

__all__ = ["AXES", "Placement", "place"]

Ints = NDArray[np.int64]

AXES = ("tp", "cp", "dp", "ep", "etp", "edp", "shard", "replicate", "edp_shard", "edp_replicate")
"""Axes whose groups lie within a pipeline rank."""


@dataclass(frozen=True, slots=True)
class Placement:
    """GPU ids by coordinate, and groups.

    Attributes:
        gpu: (pp, dp, cp, tp) GPU of each coordinate.
        ep: expert parallel size; the experts of a layer lie on ``ep * etp`` consecutive ranks of one pipeline rank.
        shard_group: GPUs over which ZeRO shards, consecutive members of a dp group; None: the whole group.
        etp: consecutive ranks that share an expert; tokens go to the ranks of equal position among them.
    """

    gpu: Ints
    ep: int
    shard_group: int | None = None
    etp: int = 1

    @property
    def expert_ranks(self) -> int:
        """GPUs that hold the experts of a layer once."""
        return self.ep * self.etp

    def groups(self, axis: str) -> Ints:
        """Every group of one axis, shape (groups, size).

        Axes: tp, cp, dp (gradient reduction: dp and cp together), ep, etp, edp (gradients of experts), all (one group
        of every GPU); shard and replicate: a dp group cut into those that share one copy of the states and those that
        hold the same shard; edp_shard and edp_replicate likewise for experts.
        """
        pp, dp, cp, tp = self.gpu.shape
        if axis == "tp":
            return self.gpu.reshape(-1, tp)
        if axis == "cp":
            return np.moveaxis(self.gpu, 2, 3).reshape(-1, cp)
        if axis == "dp":
            return np.moveaxis(self.gpu, 3, 1).reshape(-1, dp * cp)
        if axis == "ep":
            return np.moveaxis(self.gpu.reshape(-1, self.ep, self.etp), 2, 1).reshape(-1, self.ep)
        if axis == "etp":
            return self.gpu.reshape(-1, self.etp)
        if axis == "edp":
            ranks = self.expert_ranks
            return np.moveaxis(self.gpu.reshape(pp, -1, ranks), 2, 1).reshape(-1, dp * cp * tp // ranks)
        if axis.endswith(("shard", "replicate")):
            return self._cut(axis)
        if axis == "all":
            return self.gpu.reshape(1, -1)
        raise KeyError(axis)

    def of_rank(self, rank: int) -> Placement:
        """The GPUs of one pipeline rank alone."""
        return replace(self, gpu=self.gpu[rank : rank + 1])

    def _cut(self, axis: str) -> Ints:
        """A dp or edp group is one shard group after the other."""
        _, dp, cp, tp = self.gpu.shape
        size = self.shard_group or dp * cp
        shared = "edp" if axis.startswith("edp") else "dp"
        if shared == "edp":
            size = max(1, size * tp // self.expert_ranks)
        groups = self.groups(shared)
        runs = groups.reshape(len(groups), -1, size)
        return runs.reshape(-1, size) if axis.endswith("shard") else np.moveaxis(runs, 1, 2).reshape(-1, runs.shape[1])

    def pairs(self, source: int, target: int) -> Ints:
        """(GPU, GPU) of every send from pipeline rank ``source`` to ``target``, shape (tp * cp * dp, 2)."""
        return np.stack([self.gpu[source].ravel(), self.gpu[target].ravel()], axis=1)

    def partition(self, axis: str) -> Ints:
        """Group number of each of the tp * cp * dp coordinates of a pipeline rank, for one axis.

        ``local``: every coordinate is its own group.
        """
        _, dp, cp, tp = self.gpu.shape
        coordinate = np.arange(dp * cp * tp).reshape(1, dp, cp, tp)
        if axis in ("local", "pp"):
            return coordinate.ravel()
        groups = replace(self, gpu=coordinate).groups(axis)
        label = np.empty(groups.size, dtype=np.int64)
        label[groups.ravel()] = np.repeat(np.arange(len(groups)), groups.shape[1])
        return label


def place(parallel: Parallel, rank_order: str) -> Placement:
    """Lay the ranks over the GPUs in ``rank_order``, fastest axis first."""
    sizes = {"tp": parallel.tp, "cp": parallel.cp, "dp": parallel.dp, "pp": parallel.pp}
    slowest_first = rank_order.split("-")[::-1]
    gpu = np.arange(parallel.gpus).reshape([sizes[axis] for axis in slowest_first])
    by_axis = gpu.transpose([slowest_first.index(axis) for axis in ("pp", "dp", "cp", "tp")])
    return Placement(by_axis, parallel.ep, parallel.shard_group, parallel.etp)
