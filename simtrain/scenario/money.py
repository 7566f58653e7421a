"""Prices and what a run costs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simtrain.quantities import Seconds, Usd, UsdPerHour, UsdPerKwh
from simtrain.scenario.part import Part

__all__ = ["Money"]


class Money(Part):
    """Assumptions behind the bill; catalogue prices unless given here."""

    mode: Literal["purchase", "rent"] = "purchase"
    node_price: Usd | None = None
    """One node; absent: the catalogue's."""
    network_price_per_port: Usd | None = None
    """Switches, optics and cables per node port beyond those in the node price; absent: the fabric's."""
    gpu_rent: UsdPerHour | None = None
    """Rent of one GPU, with ``mode: rent``; absent: the catalogue's."""
    amortisation: Seconds = Field("3 years", gt=0)
    """Time over which the purchase is written off."""
    electricity: UsdPerKwh = Field("0.10 USD/kWh")
    pue: float = Field(1.1, ge=1.0, le=3.0)
    """Power usage effectiveness: facility power over IT power."""
    utilisation: float = Field(1.0, gt=0.0, le=1.0)
    """Share of the amortisation time the cluster does useful work."""
    source: str = "user document: 3 years, 0.10 USD/kWh; PUE 1.1 for a hyperscale hall"
