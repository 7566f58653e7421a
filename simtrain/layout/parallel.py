"""A layout checked against its model and cluster, with every size worked out."""

from __future__ import annotations

from dataclasses import dataclass

from simtrain import schedules
from simtrain.errors import LayoutError, UnknownNameError
from simtrain.model.layers import recompute_places
from simtrain.scenario.cluster import Node
from simtrain.scenario.layout import Layout, expert_tp
from simtrain.scenario.model import GroupedQueryAttention, Model
from simtrain.scenario.scenario import Scenario
from simtrain.scenario.workload import Workload
from simtrain.schedules.order import Placement

__all__ = ["Parallel", "even_split", "gpus_of", "plan_parallel"]


@dataclass(frozen=True, slots=True)
class Parallel:
    """Sizes of a valid layout.

    Attributes:
        gpus: tp * cp * pp * dp.
        sp: whether sequence parallelism is on.
        micro_batches: per replica and step.
        stage_layers: (pp * vpp) tuples of layer indices, by stage.
        placement: which rank runs which stage, see :func:`simtrain.schedules.order.stage_rank`.
        shard_group: GPUs over which ZeRO shards; None: all of dp * cp.
        etp: ranks over which each expert is cut.
    """

    gpus: int
    tp: int
    cp: int
    ep: int
    pp: int
    vpp: int
    dp: int
    sp: bool
    micro_batches: int
    stage_layers: tuple[tuple[int, ...], ...]
    placement: Placement = "loop"
    shard_group: int | None = None
    etp: int = 1

    @property
    def ends_apart(self) -> bool:
        """Whether embedding and head lie on different pipeline ranks."""
        return self.pp > 1 and self.placement == "loop"

    @property
    def replicas(self) -> int:
        """GPUs of one pipeline rank: tp * cp * dp."""
        return self.tp * self.cp * self.dp

    @property
    def expert_ranks(self) -> int:
        """GPUs that hold the experts of a layer once: ep * etp."""
        return self.ep * self.etp

    @property
    def experts_apart(self) -> bool:
        """Whether experts are cut in another way than the dense part: not over the tp group alone."""
        return self.ep > 1 or self.etp != self.tp

    @property
    def shared_by(self) -> dict[str, int]:
        """GPUs that hold the same parameters: dense ones (dp), and experts where they are cut apart (edp)."""
        experts = {"edp": self.replicas // self.expert_ranks} if self.experts_apart else {}
        return {"dp": self.dp * self.cp} | experts

    @property
    def sharded_over(self) -> dict[str, int]:
        """GPUs of those over which ZeRO shards; a shard group that holds every expert once shards none."""
        if self.shard_group is None:
            return self.shared_by
        experts = {"edp": max(1, self.shard_group * self.tp // self.expert_ranks)} if self.experts_apart else {}
        return {"dp": self.shard_group} | experts


def gpus_of(scenario: Scenario) -> int:
    """GPUs of the scenario's cluster."""
    node = scenario.cluster.node
    if not isinstance(node, Node):
        raise LayoutError("cluster.node is a name; load the scenario before simulating it")
    return node.gpus * scenario.cluster.nodes


def plan_parallel(scenario: Scenario, where: str = "") -> Parallel:
    """Check a resolved scenario's layout and work out what it leaves open.

    Raises:
        LayoutError: sizes do not multiply to the GPUs or do not divide heads, layers, batch, experts.
    """
    layout, model = scenario.layout, scenario.workload.model
    if not isinstance(model, Model):
        raise LayoutError("workload.model is a name; load the scenario before simulating it")
    prefix = where or (f"{scenario.name}: " if scenario.name else "")
    gpus = gpus_of(scenario)
    dp = _data_parallel(layout, gpus, prefix)
    _check_model(layout, model, scenario.workload.sequence_length, prefix)
    _check_experts(layout, model, dp, prefix)
    _check_shard_group(layout, dp, prefix)
    _check_routing(scenario.workload, model, prefix)
    _check_recompute(layout, model, prefix)
    return Parallel(
        gpus=gpus,
        tp=layout.tp,
        cp=layout.cp,
        ep=layout.ep,
        pp=layout.pp,
        vpp=layout.vpp,
        dp=dp,
        sp=layout.tp > 1 if layout.sp is None else layout.sp and layout.tp > 1,
        micro_batches=_micro_batches(scenario, dp, prefix),
        stage_layers=_stage_layers(layout, model, prefix),
        placement=_placement(layout, prefix),
        shard_group=layout.shard_group,
        etp=expert_tp(layout.tp, layout.ep, layout.etp),
    )


def _placement(layout: Layout, prefix: str) -> Placement:
    try:
        return schedules.get(layout.schedule).placement
    except UnknownNameError as error:
        raise UnknownNameError(error.what, error.name, error.valid, f"{prefix}layout.schedule") from None


def _data_parallel(layout: Layout, gpus: int, prefix: str) -> int:
    inner = layout.tp * layout.cp * layout.pp
    if layout.dp is None and gpus % inner == 0:
        return gpus // inner
    sizes = f"layout.tp * layout.cp * layout.pp = {layout.tp} * {layout.cp} * {layout.pp} = {inner}"
    if layout.dp is None:
        raise LayoutError(f"{prefix}{sizes} does not divide the cluster's {gpus} GPUs; {_divisor_hint(inner, gpus)}")
    if inner * layout.dp != gpus:
        fix = (
            f"layout.dp = {gpus // inner} would fit"
            if gpus % inner == 0
            else f"and no layout.dp fits; {_divisor_hint(inner, gpus)}"
        )
        raise LayoutError(
            f"{prefix}layout.dp = {layout.dp}: {sizes}, times dp = {inner * layout.dp}, "
            f"but the cluster has {gpus} GPUs; {fix}"
        )
    return layout.dp


def _divisor_hint(value: int, total: int) -> str:
    divisors = [d for d in range(1, total + 1) if total % d == 0]
    close = min(divisors, key=lambda d: (abs(d - value), d))
    return f"their product must divide {total}, the nearest that does is {close}"


def _choices(total: int) -> str:
    return ", ".join(str(d) for d in range(1, total + 1) if total % d == 0)


def _must_divide(key: str, value: int, what: str, total: int, prefix: str) -> None:
    if total % value:
        raise LayoutError(f"{prefix}{key} = {value} does not divide {what} = {total}; allowed: {_choices(total)}")


def _check_model(layout: Layout, model: Model, sequence: int, prefix: str) -> None:
    attention = model.attention
    _must_divide("layout.tp", layout.tp, "workload.model.attention.heads", attention.heads, prefix)
    if isinstance(attention, GroupedQueryAttention):
        kv_heads = attention.kv_heads or attention.heads
        if kv_heads % layout.tp and layout.tp % kv_heads:
            raise LayoutError(
                f"{prefix}layout.tp = {layout.tp} neither divides nor is a multiple of "
                f"workload.model.attention.kv_heads = {kv_heads}; allowed: {_choices(kv_heads)}"
            )
    _must_divide("layout.tp", layout.tp, "workload.model.ffn_hidden", model.ffn_hidden, prefix)
    if model.learned_positions and sequence > model.learned_positions:
        raise LayoutError(
            f"{prefix}workload.sequence_length = {sequence} is longer than the model's position table; "
            f"allowed: up to workload.model.learned_positions = {model.learned_positions}"
        )
    _must_divide("layout.cp", layout.cp, "workload.sequence_length", sequence, prefix)
    _check_context(layout, model, prefix)
    if layout.sp and layout.tp == 1:
        raise LayoutError(f"{prefix}layout.sp = true needs layout.tp above 1: it shares the tensor parallel group")
    if layout.tp > 1 and layout.sp is not False:
        _must_divide("layout.tp", layout.tp, "workload.sequence_length / layout.cp", sequence // layout.cp, prefix)


def _check_context(layout: Layout, model: Model, prefix: str) -> None:
    """Heads are cut over the context parallel group where it exchanges tokens for heads."""
    if layout.cp == 1 or layout.cp_comm != "all_to_all":
        return
    attention = model.attention
    key = "layout.cp_comm = all_to_all: layout.cp"
    what = "workload.model.attention.{} / layout.tp"
    _must_divide(key, layout.cp, what.format("heads"), attention.heads // layout.tp, prefix)
    if isinstance(attention, GroupedQueryAttention):
        keys = max((attention.kv_heads or attention.heads) // layout.tp, 1)
        _must_divide(key, layout.cp, what.format("kv_heads"), keys, prefix)


def _check_experts(layout: Layout, model: Model, dp: int, prefix: str) -> None:
    moe = model.moe
    if moe is None:
        _no_experts(layout, prefix)
        return
    etp = expert_tp(layout.tp, layout.ep, layout.etp)
    key = "layout.tp" if layout.etp is None else "layout.etp"
    _must_divide(key, etp, "workload.model.moe.expert_ffn_hidden", moe.expert_ffn_hidden, prefix)
    if moe.shared_ffn_hidden:
        what, width = "workload.model.moe.shared_ffn_hidden", moe.shared_ffn_hidden
        _must_divide("layout.tp", layout.tp, what, width, prefix)
    given = f"layout.ep = {layout.ep}" + ("" if layout.etp is None else f" and layout.etp = {etp}")
    if (layout.ep > 1 or etp != layout.tp) and layout.tp > 1 and layout.sp is False:
        raise LayoutError(
            f"{prefix}layout.sp = false with layout.tp = {layout.tp} and {given}: every tensor "
            "parallel rank would repeat the experts' work; allowed: layout.sp = true"
        )
    _must_divide("layout.ep", layout.ep, "workload.model.moe.experts", moe.experts, prefix)
    if layout.tp % etp and etp % layout.tp:
        raise LayoutError(
            f"{prefix}layout.etp = {etp} neither divides nor is a multiple of layout.tp = {layout.tp}; "
            f"allowed: {_choices(layout.tp)} and multiples of {layout.tp}"
        )
    key = "layout.ep" if etp == 1 else "layout.ep * layout.etp"
    ranks = dp * layout.cp * layout.tp
    _must_divide(key, layout.ep * etp, "GPUs of one pipeline rank (tp * cp * dp)", ranks, prefix)


def _no_experts(layout: Layout, prefix: str) -> None:
    """A dense model leaves nothing to spread over ranks of experts."""
    for key, value, allowed in (("ep", layout.ep, 1), ("etp", layout.etp, None)):
        if value != allowed:
            only = "null" if allowed is None else allowed
            raise LayoutError(f"{prefix}layout.{key} = {value}, but the model has no experts; allowed: {only}")


def _check_shard_group(layout: Layout, dp: int, prefix: str) -> None:
    group = layout.shard_group
    if group is None:
        return
    if layout.zero == 0:
        raise LayoutError(
            f"{prefix}layout.shard_group = {group}, but layout.zero = 0 shards nothing; allowed: layout.zero 1 to 3"
        )
    _must_divide("layout.shard_group", group, "layout.dp * layout.cp", dp * layout.cp, prefix)
    held, etp = group * layout.tp, expert_tp(layout.tp, layout.ep, layout.etp)
    ranks = layout.ep * etp
    if held % ranks and ranks % held:
        sizes = "layout.ep" if etp == 1 else "layout.ep * layout.etp"
        raise LayoutError(
            f"{prefix}layout.shard_group = {group}: its {held} GPUs (times layout.tp) neither divide nor are a "
            f"multiple of {sizes} = {ranks}"
        )


def _check_routing(workload: Workload, model: Model, prefix: str) -> None:
    """Whoever asks for uneven experts means a model that has some."""
    if model.moe is not None:
        return
    for key, plain in (("kind", "balanced"), ("capacity_factor", None)):
        value = getattr(workload.routing, key)
        if value != plain:
            allowed = plain or "null"
            raise LayoutError(
                f"{prefix}workload.routing.{key} = {value}, but the model has no experts; allowed: {allowed}"
            )


def _check_recompute(layout: Layout, model: Model, prefix: str) -> None:
    """Whoever names modules means that each of them runs again."""
    chosen = layout.recompute_modules
    if chosen is None:
        return
    where = f"{prefix}layout.recompute_modules = [{', '.join(chosen)}]"
    if layout.recompute != "selective":
        raise LayoutError(
            f"{where}, but layout.recompute = {layout.recompute}; allowed: layout.recompute = selective, or "
            "layout.recompute_modules = null"
        )
    places = recompute_places(model)
    names = sorted({name for place in places for name in place})
    if not chosen:
        raise LayoutError(f"{where} names nothing; allowed: {', '.join(names)}, or null for core_attn")
    for number, module in enumerate(chosen):
        if module in chosen[:number]:
            raise LayoutError(f"{where} names {module} twice")
        around = [place[: place.index(module)] for place in places if module in place]
        if not around:
            raise LayoutError(f"{where}: the model has no {module}; allowed: {', '.join(names)}")
        outer = [next((name for name in place if name in chosen), "") for place in around]
        if all(outer):
            raise LayoutError(f"{where}: {module} is part of {outer[0]}, which runs again as a whole; name one of them")


def _micro_batches(scenario: Scenario, dp: int, prefix: str) -> int:
    batch, micro = scenario.workload.global_batch, scenario.layout.micro_batch
    if batch % dp:
        fitting = [size for size in (batch // dp * dp, (batch // dp + 1) * dp) if size]
        raise LayoutError(
            f"{prefix}layout.dp = {dp} does not divide workload.global_batch = {batch} sequences; "
            f"the nearest that fit: {' and '.join(map(str, fitting))}"
        )
    if batch % (dp * micro):
        raise LayoutError(
            f"{prefix}layout.micro_batch = {micro} does not divide the {batch // dp} sequences of a replica "
            f"(workload.global_batch {batch} / dp {dp}); allowed: {_choices(batch // dp)}"
        )
    return batch // (dp * micro)


def _stage_layers(layout: Layout, model: Model, prefix: str) -> tuple[tuple[int, ...], ...]:
    stages = layout.pp * layout.vpp
    if layout.vpp > 1 and layout.pp == 1:
        raise LayoutError(f"{prefix}layout.vpp = {layout.vpp} needs layout.pp above 1; allowed: 1")
    split = layout.layers_per_stage
    if split is None:
        if model.layers % stages:
            raise LayoutError(
                f"{prefix}layout.pp * layout.vpp = {stages} does not divide workload.model.layers = {model.layers}; "
                f"give layout.layers_per_stage ({stages} numbers), for example {list(even_split(model.layers, stages))}"
            )
        split = (model.layers // stages,) * stages
    if len(split) != stages or sum(split) != model.layers or min(split) < 0:
        raise LayoutError(
            f"{prefix}layout.layers_per_stage = {list(split)} must be {stages} numbers (pp * vpp), not negative, "
            f"that add up to {model.layers} layers; it has {len(split)} that add up to {sum(split)}"
        )
    starts = [sum(split[:i]) for i in range(stages)]
    return tuple(tuple(range(start, start + n)) for start, n in zip(starts, split, strict=True))


def even_split(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each stage, as even as possible; the spare ones go to the middle, where no embedding or head sits."""
    base, spare = divmod(layers, stages)
    first = (stages - spare) // 2
    return tuple(base + (first <= i < first + spare) for i in range(stages))
