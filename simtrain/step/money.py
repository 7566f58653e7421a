"""What a run costs: purchase written off over time or rent, and electricity."""

from __future__ import annotations

from collections.abc import Callable

from simtrain.errors import ScenarioError
from simtrain.layout.parallel import gpus_of
from simtrain.scenario.cluster import Device, Node
from simtrain.scenario.scenario import Scenario
from simtrain.step.report import JobReport

__all__ = ["job_report", "power_watts", "purchase_usd"]


def purchase_usd(scenario: Scenario) -> float:
    """Price of the whole cluster: nodes, and network ports beyond those in the node price."""
    node = _node(scenario)
    money = scenario.money
    price = money.node_price if money.node_price is not None else node.price
    if price is None:
        price = _card_price(node) * node.gpus
    fabric = scenario.cluster.fabric
    port = money.network_price_per_port
    if port is None:
        port = 0.0 if fabric is None or isinstance(fabric, str) else fabric.price_per_port
    ports = max(0, node.nics - node.nics_in_price)
    return float(scenario.cluster.nodes * (price + ports * port))


def power_watts(scenario: Scenario, off: int = 0) -> float:
    """IT power of the cluster at load, without cooling; ``off`` of its nodes are switched off and draw none."""
    node, running = _node(scenario), scenario.cluster.nodes - off
    if node.power is not None:
        return float(running * node.power)
    if isinstance(node.device, Device) and node.device.power is not None:
        return float(running * node.gpus * node.device.power)
    raise ScenarioError(f"the power of {node.title} is not known; set cluster.node.power, for example '10.2 kW'")


def job_report(scenario: Scenario, tokens_per_s: float, off: int = 0) -> JobReport:
    """The bill of training ``workload.tokens`` at ``tokens_per_s`` of the whole cluster.

    Purchase: price / (amortisation * utilisation) per hour plus electricity * power * PUE.
    Rent: GPU-hours * rent; electricity is the landlord's.
    Nodes that are ``off`` (cold spares) are bought or rented like the others, and draw no power.
    """
    money, gpus = scenario.money, gpus_of(scenario)
    hours = scenario.workload.tokens / tokens_per_s / 3600.0
    unknown: list[str] = []
    purchase: float | None = 0.0
    power: float | None = 0.0
    if money.mode == "purchase":
        purchase = _known(purchase_usd, scenario, unknown)
        hardware = _times(purchase, hours * 3600.0 / (money.amortisation * money.utilisation))
        power = _times(
            _known(lambda s: power_watts(s, off), scenario, unknown), money.pue * hours * money.electricity / 1e3
        )
    else:
        hardware = _times(_known(_rent, scenario, unknown), gpus * hours)
    cost = None if hardware is None or power is None else hardware + power
    return JobReport(
        days=hours / 24.0,
        gpu_hours=hours * gpus,
        cost_usd=cost,
        power_usd=power,
        purchase_usd=purchase,
        usd_per_million_tokens=_times(cost, 1e6 / scenario.workload.tokens),
        usd_per_gpu_hour=_times(cost, 1.0 / (hours * gpus)),
        unknown=tuple(unknown),
    )


def _known(amount: Callable[[Scenario], float], scenario: Scenario, unknown: list[str]) -> float | None:
    """``amount`` of the scenario; where it is not known, None and a line in ``unknown``."""
    try:
        return amount(scenario)
    except ScenarioError as error:
        unknown.append(str(error))
        return None


def _times(amount: float | None, factor: float) -> float | None:
    return None if amount is None else amount * factor


def _node(scenario: Scenario) -> Node:
    if not isinstance(scenario.cluster.node, Node):
        raise ScenarioError("cluster.node is a name; load the scenario before simulating it")
    return scenario.cluster.node


def _card_price(node: Node) -> float:
    if isinstance(node.device, Device) and node.device.price is not None:
        return float(node.device.price)
    raise ScenarioError(
        f"the price of {node.title} is not known; set money.node_price, for example '300000 USD', or money.mode to rent"
    )


def _rent(scenario: Scenario) -> float:
    device = _node(scenario).device
    rent = scenario.money.gpu_rent
    if rent is None and isinstance(device, Device):
        rent = device.rent
    if rent is None:
        title = device.title if isinstance(device, Device) else device
        raise ScenarioError(f"the rent of {title} is not known; set money.gpu_rent, for example '2.50 USD/h'")
    return float(rent)
