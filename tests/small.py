"""Small scenarios out of the library: a few layers of a known model on two HGX H100 nodes."""

from __future__ import annotations

import simtrain as st
from simtrain.scenario.scenario import Scenario


def small(*overrides: str, model: str = "llama2-7b", cluster: str = "2x-hgx-h100", layers: int = 4) -> Scenario:
    """16 GPUs, ``layers`` layers, 1024 tokens, 16 sequences, tp 2, pp 2, dp 4 unless overridden."""
    document = {
        "cluster": cluster,
        "workload": {"extends": model, "sequence_length": 1024, "global_batch": 16, "model": {"extends": model}},
        "layout": {"tp": 2, "pp": 2},
        "software": {"calls_per_operator": 0, "calls_per_step": 0},  # a GPU that never waits for its host
    }
    alike = "cluster.node.device.speed_spread=0.0"
    return st.load(document, f"workload.model.layers={layers}", alike, *overrides)
