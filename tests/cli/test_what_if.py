"""A what-if study on a page and as JSON, as a user asks for it."""

from __future__ import annotations

import json

import pytest

from tests.report.pages import figures

SCENARIO = """\
extends: ./small.yaml
reliability:
  classes: {gpu: {owner: gpu, mtbf: 3 days}}
  recovery: {start: 2 min}
  spares: {cold: 2, repair: 5 h}
"""


@pytest.fixture(scope="module")
def words() -> tuple[str, ...]:
    return ("--runs", "6", "--json")


def test_a_scenario_has_every_figure_and_prices(cli, folder, words) -> None:
    (folder / "failing.yaml").write_text(SCENARIO)
    ran = cli("goodput", "failing.yaml", "--what-if", "page.html", *words)
    assert ran.status == 0, ran.err
    found = ran.document
    drawn = figures((folder / "page.html").read_text())
    titles = [figure["layout"]["title"]["text"] for figure in drawn]
    assert len(titles) == 9
    assert "<b>Cost of a useful token</b>" in titles
    assert {bar["knob"] for bar in found["sensitivities"]} == {"mtbf", "recovery", "interval", "checkpoint", "spares"}
    policies = {policy["name"]: policy for policy in found["policies"]}
    assert {"blocking", "asynchronous", "just in time", "no spare node, wait"} <= set(policies)
    assert policies["no spare node, wait"]["change"]["value"] < 0
    assert policies["blocking"]["usd_per_million_tokens"] > found["usd_per_million_tokens_without_failures"]
    assert len(found["maps"]) == 3
    for each in found["maps"]:
        assert each["goodput"][-1][3] > each["goodput"][0][3]
    assert found["rates"][0]["gpu_days"] == pytest.approx(3.0)
    assert {"h100", "a100-rsc1"} <= {rate["name"] for rate in found["rates"]}


def test_a_preset_says_what_it_cannot_compare(cli, folder, words) -> None:
    ran = cli("goodput", "h100", "--gpus", "512", "--what-if", "page.html", *words)
    assert ran.status == 0, ran.err
    assert any("--replicas" in why for why in ran.document["left_out"])
    assert ran.document["costs"] == []
    assert "The formula leaves out failures that do not stop the job" in (folder / "page.html").read_text()
    replicas = cli("goodput", "h100", "--gpus", "512", "--replicas", "8", "--what-if", "page.html", *words).document
    assert "shrink to whole replicas" in {policy["name"] for policy in replicas["policies"]}


def test_options_hold_for_all_that_is_compared(cli, folder, words) -> None:
    fast = cli("goodput", "h100", "--gpus", "512", "--recovery", "1 min", "--immune", "--what-if", "a.html", *words)
    assert fast.document["recovery_s"] == pytest.approx(60)
    assert fast.document["recovery_can_fail"] is False
    assert json.dumps(fast.document)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("h100", "--what-if", "no/a.html"), "no/a.html cannot be written"),
        (("h100", "--what-if", "a.html", "--curve"), "leave out --curve"),
        (("h100", "--what-if", "a.html", "--set", "checkpoint.kind=none"), "leaves no interval to vary"),
    ],
)
def test_what_if_asked_wrong(arguments, said, cli, folder) -> None:
    ran = cli("goodput", *arguments)
    assert ran.status == 2
    assert said in ran.err
    assert not (folder / "a.html").exists()
