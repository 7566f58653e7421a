"""Max-min shares against an exact solver, and what transfers and kernels do to each other."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.engines import simulate
from simtrain.engines.network import Network, prepare
from simtrain.engines.rates import settle
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import STREAMS, Program, Sharing, Stream

C, TP, EP, DP = Stream.COMPUTE, Stream.TP, Stream.EP, Stream.DP
Flow = tuple[dict[int, Fraction], Fraction]  # share of each edge at rate 1, pace

SHARES = st.fractions(Fraction(1, 20), 1, max_denominator=20)
PACES = st.sampled_from([Fraction(1, 3), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(7)])
FLOWS = st.lists(st.tuples(st.dictionaries(st.integers(0, 5), SHARES, max_size=4), PACES), min_size=1, max_size=9)


def exact(flows: Sequence[Flow], caps: Sequence[Fraction] = (Fraction(1),) * 9) -> list[Fraction]:
    """Max-min rates, at most ``caps``, by filling in exact fractions, one event at a time."""
    rates = [Fraction(0)] * len(flows)
    growing, level = set(range(len(flows))), Fraction(0)
    while growing:
        used = {e: sum((rates[i] * f[0].get(e, 0) for i, f in enumerate(flows)), Fraction(0)) for e in range(6)}
        pace = {e: sum((flows[i][1] * flows[i][0].get(e, 0) for i in growing), Fraction(0)) for e in range(6)}
        steps = [(caps[i] - rates[i]) / flows[i][1] for i in growing]
        steps += [(1 - used[e]) / pace[e] for e in range(6) if pace[e]]
        step = min(steps)
        level += step
        for i in growing:
            rates[i] += flows[i][1] * step
        full = {e for e in range(6) if pace[e] and (1 - used[e]) / pace[e] == step}
        growing -= {i for i in growing if rates[i] == caps[i] or full & flows[i][0].keys()}
    return rates


def transfers(flows: Sequence[Flow], work_s: Sequence[float] | None = None) -> Program:
    """One transfer a rank."""
    builder = ProgramBuilder(len(flows))
    for i, (edges, pace) in enumerate(flows):
        shares = [(edge, float(share)) for edge, share in edges.items()]
        builder.op(f"t{i}", [(i, TP)], work_s[i] if work_s else 1.0, flows=shares, weight=float(pace))
    return builder.build()


def rates(net: Network) -> np.ndarray:
    """Rate of every transfer of :func:`transfers`."""
    return net.lanes["rate"][TP::STREAMS]


@given(FLOWS)
@settings(max_examples=300, deadline=None)
def test_rates_are_max_min_fair(flows: list[Flow]) -> None:
    net = prepare(transfers(flows))
    settle(net, np.arange(len(flows), dtype=np.int32), np.empty(0, dtype=np.int32))
    np.testing.assert_allclose(rates(net), [float(rate) for rate in exact(flows)], rtol=1e-9)


@given(FLOWS, st.lists(st.booleans(), min_size=30, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_refilling_what_a_change_reaches_equals_filling_anew(flows: list[Flow], coins: list[bool], random) -> None:
    """Transfers come and go one by one; after each change all rates are those of all that are under way."""
    net = prepare(transfers(flows))
    under_way: list[int] = []
    nothing = np.empty(0, dtype=np.int32)
    for coin in coins:
        idle = [i for i in range(len(flows)) if i not in under_way]
        if idle and (coin or not under_way):
            op = random.choice(idle)
            under_way.append(op)
            settle(net, np.array([op], dtype=np.int32), nothing)
        else:
            op = under_way.pop(random.randrange(len(under_way)))
            settle(net, nothing, np.array([op], dtype=np.int32))
        expected = exact([flows[i] for i in under_way])
        np.testing.assert_allclose(rates(net)[under_way], [float(rate) for rate in expected], rtol=1e-9)


@given(FLOWS, st.data())
@settings(max_examples=150, deadline=None)
def test_kernels_that_slow_transfers_free_what_these_leave_of_a_link(flows: list[Flow], data: st.DataObject) -> None:
    """Kernels and transfers come and go, several at once; all rates are those of all that are under way."""
    n, slowed = len(flows), data.draw(st.sampled_from([Fraction(1, 4), Fraction(2, 3)]))
    holds = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    builder = ProgramBuilder(n)
    for i, (edges, pace) in enumerate(flows):
        shares = [(edge, float(share)) for edge, share in edges.items()]
        builder.op(f"t{i}", [(i, TP)], 1.0, flows=shares, weight=float(pace), sms=0.1 * holds[i])
    for i in range(n):
        builder.op(f"k{i}", [(i, C)], 1.0)
    net = prepare(builder.build(sharing=Sharing(10, 1.0, float(slowed))))
    under_way: set[int] = set()
    for _ in range(data.draw(st.integers(1, 12))):
        turned = data.draw(st.sets(st.integers(0, 2 * n - 1), min_size=1, max_size=3))
        settle(net, np.array(sorted(turned - under_way), np.int32), np.array(sorted(turned & under_way), np.int32))
        under_way ^= turned
        moving = sorted(i for i in under_way if i < n)
        caps = [slowed if holds[i] and n + i in under_way else Fraction(1) for i in moving]
        expected = [float(rate) for rate in exact([flows[i] for i in moving], caps)]
        np.testing.assert_allclose(rates(net)[moving], expected, rtol=1e-9)
        kernels = [i for i in range(n) if n + i in under_way]
        held = [0.9 if holds[i] and i in under_way else 1.0 for i in kernels]
        np.testing.assert_allclose(net.lanes["rate"][C::STREAMS][kernels], held)


@given(FLOWS, st.sets(st.integers(0, 8)))
@settings(max_examples=60, deadline=None)
def test_rates_are_the_same_without_numba(flows: list[Flow], over: set[int]) -> None:
    compiled, plain = prepare(transfers(flows)), prepare(transfers(flows)).plain()
    begun, ended = np.arange(len(flows), dtype=np.int32), np.array(sorted(over & set(range(len(flows)))), np.int32)
    for change in ((begun, ended[:0]), (begun[:0], ended)):
        assert settle(compiled, *change) == settle.plain(plain, *change)
        assert rates(compiled).tolist() == [lane["rate"] for lane in plain.lanes[TP::STREAMS]]


@given(FLOWS, st.data())
@settings(max_examples=60, deadline=None)
def test_work_is_conserved_on_every_edge(flows: list[Flow], data: st.DataObject) -> None:
    """No edge carries more than it can in any time, and all bytes arrive: ends are no earlier than the fullest edge."""
    sizes = st.sampled_from([0.1, 0.5, 1.0, 2.0])
    work_s = data.draw(st.lists(sizes, min_size=len(flows), max_size=len(flows)))
    timeline = simulate(transfers(flows, work_s))
    load = [sum(w * float(f[0].get(e, 0)) for f, w in zip(flows, work_s, strict=True)) for e in range(6)]
    assert timeline.makespan_s >= max([*load, *work_s]) * (1 - 1e-9)
    assert (timeline.end_s <= sum(work_s) * (1 + 1e-9)).all()


def test_two_equal_transfers_on_a_link_take_twice_as_long() -> None:
    whole = ({0: Fraction(1)}, Fraction(1))
    assert simulate(transfers([whole, whole])).end_s.tolist() == [2.0, 2.0]
    assert simulate(transfers([whole, whole], [1.0, 3.0])).end_s.tolist() == [2.0, 4.0]


def test_a_slow_transfer_leaves_the_rest_of_a_link_to_a_fast_one() -> None:
    """In bytes per second: one that needs a tenth of the link gets it, the other the rest."""
    slow, fast = ({0: Fraction(1, 10)}, Fraction(10)), ({0: Fraction(1)}, Fraction(1))
    net = prepare(transfers([slow, fast]))
    settle(net, np.arange(2, dtype=np.int32), np.empty(0, dtype=np.int32))
    assert rates(net).tolist() == [1.0, pytest.approx(0.9)]


def test_all_flows_of_an_operation_move_at_the_pace_of_its_fullest_link() -> None:
    both, one = ({0: Fraction(1), 1: Fraction(1)}, Fraction(1)), ({0: Fraction(1)}, Fraction(1))
    other = ({1: Fraction(1)}, Fraction(1))
    net = prepare(transfers([both, one, one, other]))
    settle(net, np.arange(4, dtype=np.int32), np.empty(0, dtype=np.int32))
    np.testing.assert_allclose(rates(net), [1 / 3, 1 / 3, 1 / 3, 2 / 3])


def beside(kernel: dict[str, float], sms: float, sharing: Sharing) -> tuple[float, float]:
    """Ends of a kernel of one second and a transfer of ten that run side by side."""
    builder = ProgramBuilder(1)
    builder.op("kernel", [(0, C)], 1.0, **kernel)
    builder.op("transfer", [(0, EP)], 10.0, sms=sms)
    ends = simulate(builder.build(sharing=sharing)).end_s
    return float(ends[0]), float(ends[1])


def test_a_persistent_kernel_loses_the_sms_a_transfer_holds_and_a_little_for_memory() -> None:
    kernel_s, transfer_s = beside({}, 20 / 132, Sharing(132, 0.97, 0.73))
    assert kernel_s == pytest.approx(1 / (112 / 132 * 0.97))
    assert transfer_s == pytest.approx(kernel_s + 10.0 - 0.73 * kernel_s)


def test_a_static_grid_runs_in_more_waves() -> None:
    """One full wave becomes two beside any transfer; many waves lose about the share of SMs."""
    assert beside({"grid": 132}, 24 / 132, Sharing(132))[0] == pytest.approx(2.0)
    assert beside({"grid": 100}, 24 / 132, Sharing(132))[0] == pytest.approx(1.0)
    assert beside({"grid": 13200}, 24 / 132, Sharing(132))[0] == pytest.approx(123 / 100)


def test_a_transfer_without_sms_leaves_kernels_alone() -> None:
    assert beside({}, 0.0, Sharing(132, 0.97, 0.73)) == (1.0, 10.0)


def test_nothing_is_taken_before_the_bytes_move() -> None:
    """Neither an early arriver that waits for its peer nor the latency of a transfer slows a kernel."""
    builder = ProgramBuilder(2)
    builder.op("kernel", [(0, C)], 1.0)
    late = builder.op("late", [(1, C)], 3.0)
    builder.op("collective", [(0, TP), (1, TP)], 1.0, after=[late], sms=0.5)
    builder.op("waiting on the wire", [(0, DP)], 1.0, latency_s=1.0, sms=0.5)
    ends = simulate(builder.build(sharing=Sharing(2, 0.9, 0.5))).end_s
    assert ends.tolist() == [1.0, 3.0, 4.0, 2.0]
