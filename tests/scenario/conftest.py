"""A complete scenario with every part inline, and a helper that writes documents."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

KERNEL_CLASSES = (
    "gemm",
    "grouped_gemm",
    "attention_forward",
    "attention_backward",
    "norm",
    "activation",
    "elementwise",
    "embedding",
    "cross_entropy",
    "permute",
    "optimizer",
)
LINK = {"bandwidth": "32 GB/s", "latency": "1 us"}
DEVICE = {
    "title": "Test card",
    "architecture": "Test",
    "peaks": {"bf16": "100 TFLOPS"},
    "memory": "24 GB",
    "memory_bandwidth": "1 TB/s",
    "kernels": {name: {"compute": 0.7, "memory": 0.8, "latency": "5 us", "source": "test"} for name in KERNEL_CLASSES},
    "source": "test",
}
NODE = {
    "title": "Test server",
    "device": DEVICE,
    "gpus": 8,
    "links": {"kind": "pcie", "pcie": LINK, "host": LINK, "socket_link": LINK},
    "nics": 1,
    "nic": {"bandwidth": "200 Gbps", "latency": "2 us"},
    "source": "test",
}
MODEL = {
    "title": "Test model",
    "layers": 8,
    "hidden": 512,
    "attention": {"kind": "gqa", "heads": 8},
    "ffn_hidden": 2048,
    "vocab": 32000,
    "source": "test",
}
SCENARIO = {
    "title": "Test scenario",
    "cluster": {"node": NODE, "nodes": 4, "fabric": {"kind": "single_switch", "latency": "1 us"}},
    "workload": {"model": MODEL, "sequence_length": 2048, "global_batch": 64, "tokens": "1B"},
    "layout": {"tp": 2, "pp": 2},
}

Write = Callable[[str, Any], Path]


@pytest.fixture
def scenario() -> dict[str, Any]:
    """A document that may be changed at will."""
    return copy.deepcopy(SCENARIO)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a document below the working directory, which is a fresh folder."""
    monkeypatch.chdir(tmp_path)

    def _write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    return _write
