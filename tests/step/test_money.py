"""What a run costs, by hand."""

from __future__ import annotations

import pytest

import simtrain as st
from simtrain.scenario.scenario import Scenario
from simtrain.step.money import job_report, power_watts, purchase_usd
from tests.small import small


def bought(cluster: str, *overrides: str) -> Scenario:
    return small("money.pue=1", "layout.pp=1", *overrides, cluster=cluster)


def test_eight_4090_and_eight_h100_written_off_over_three_years() -> None:
    """40 k$ and 5 kW, 300 k$ and 10 kW, 26280 h at 0.10 $/kWh: 0.253 and 1.552 $ a GPU-hour."""
    cards = bought("1x-8x4090", "money.node_price=40000 USD", "cluster.node.power=5 kW")
    hopper = bought(
        "1x-hgx-h100", "money.node_price=300000 USD", "cluster.node.power=10 kW", "cluster.node.nics_in_price=8"
    )
    assert job_report(cards, 1e5).usd_per_gpu_hour == pytest.approx(0.253, abs=5e-4)
    assert job_report(hopper, 1e5).usd_per_gpu_hour == pytest.approx(1.552, abs=5e-4)


def test_a_bill_by_hand() -> None:
    scenario = small(
        "money.node_price=100000 USD", "money.network_price_per_port=2000 USD", "cluster.node.nics_in_price=0"
    )
    report = job_report(scenario, 1e6)
    hours = 2e12 / 1e6 / 3600
    purchase = 2 * (100_000 + 8 * 2000)
    power = 2 * 10.2 * 1.1 * hours * 0.10
    assert report.purchase_usd == purchase_usd(scenario) == purchase
    assert power_watts(scenario) == pytest.approx(20_400)
    assert report.days == pytest.approx(hours / 24)
    assert report.gpu_hours == pytest.approx(16 * hours)
    assert report.power_usd == pytest.approx(power)
    assert report.cost_usd == pytest.approx(purchase * hours / 26280 + power)
    assert report.usd_per_million_tokens == pytest.approx(report.cost_usd / 2e6)


def test_nodes_that_are_off_are_paid_for_but_draw_no_power() -> None:
    on, off = (job_report(small("cluster.nodes=3", "layout.pp=1"), 1e6, off=n) for n in (0, 1))
    assert off.purchase_usd == on.purchase_usd
    assert off.power_usd == pytest.approx(on.power_usd * 2 / 3)
    assert on.cost_usd - off.cost_usd == pytest.approx(on.power_usd / 3)
    rented = [job_report(small("money.mode=rent"), 1e6, off=n).cost_usd for n in (0, 1)]
    assert rented[0] == rented[1]


def test_half_the_use_doubles_what_the_hardware_costs() -> None:
    full, half = (job_report(small(f"money.utilisation={u}"), 1e6) for u in (1.0, 0.5))
    assert half.cost_usd - half.power_usd == pytest.approx(2 * (full.cost_usd - full.power_usd))
    assert half.power_usd == pytest.approx(full.power_usd)


def test_rent_is_by_the_gpu_hour_and_includes_power() -> None:
    report = job_report(small("money.mode=rent", "money.gpu_rent=2.5 USD/h"), 1e6)
    assert report.usd_per_gpu_hour == pytest.approx(2.5)
    assert report.power_usd == report.purchase_usd == 0.0


def test_ports_in_the_price_are_not_paid_twice() -> None:
    bare, held = (purchase_usd(small(f"cluster.node.nics_in_price={n}")) for n in (0, 8))
    port = small().cluster.fabric.price_per_port
    assert bare - held == pytest.approx(16 * port)
    assert port > 0


def test_a_price_is_that_of_its_cards_where_the_node_has_none() -> None:
    price = small().cluster.node.device.price
    scenario = small("cluster.node.price=null", "cluster.node.nics_in_price=8")
    assert purchase_usd(scenario) == pytest.approx(16 * price)


def test_what_is_not_known_is_asked_for() -> None:
    with pytest.raises(st.ScenarioError, match=r"money\.node_price"):
        purchase_usd(small("cluster.node.price=null", "cluster.node.device.price=null"))
    with pytest.raises(st.ScenarioError, match=r"cluster\.node\.power"):
        power_watts(small("cluster.node.power=null", "cluster.node.device.power=null"))


NOT_KNOWN = {
    "price": (("cluster.node.price=null", "cluster.node.device.price=null"), {"power_usd"}, "money.node_price"),
    "power": (
        ("cluster.node.power=null", "cluster.node.device.power=null"),
        {"purchase_usd"},
        "cluster.node.power",
    ),
    "rent": (("money.mode=rent", "cluster.node.device.rent=null"), {"purchase_usd", "power_usd"}, "money.gpu_rent"),
}


@pytest.mark.parametrize("case", NOT_KNOWN)
def test_a_bill_without_a_price_says_which_and_leaves_the_rest(case: str) -> None:
    overrides, known, key = NOT_KNOWN[case]
    report = job_report(small(*overrides), 1e6)
    amounts = ("cost_usd", "power_usd", "purchase_usd", "usd_per_million_tokens", "usd_per_gpu_hour")
    assert {name for name in amounts if getattr(report, name) is not None} == known
    assert report.days > 0
    assert len(report.unknown) == 1
    assert key in report.unknown[0]
