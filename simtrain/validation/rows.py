"""Rows of published training measurements, and the scenarios they describe.

A prediction reads the columns of hardware, model, layout and software alone.  Measured columns, names and notes are
carried along for the report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simtrain.errors import ScenarioError
from simtrain.validation.hardware import HardwareColumns
from simtrain.validation.table import read_table

__all__ = ["COLUMNS", "Measured", "Row", "read_rows"]

COLUMNS = (
    *("id", "group", "model", "n_gpus", "dtype", "seq", "global_batch", "micro_batch", "tp", "pp", "vpp", "dp", "cp"),
    *("ep", "sp", "recompute", "attention_kernel", "fused_norm", "schedule", "overlap_flags", "measured_step_s"),
    *("peak_mem_gb", "oom", "task", "config_complete", "stack", "stack_year", "stack_version", "device", "precision"),
    *("gpus_per_node", "scale_up_domain", "intra_link", "intra_unidir_gbs_per_gpu", "nics_per_node", "nic_gbps"),
    *("fabric_oversubscription", "zero_stage", "shard_group"),
)
"""Columns that a file must have; others are ignored, but for :data:`_NETWORK`."""
_NETWORK = "interconnect_inter"
"""Network between boxes in words; a file may lack it."""

_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was published; None: not measured."""

    step_s: float | None
    peak_memory_gib: float | None
    out_of_memory: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One row, its cells read; None: blank, or not a number where the table says why in words."""

    id: str
    group: str
    model: str
    task: str
    complete: bool
    hardware: HardwareColumns
    precision: str
    dtype: str
    sequence: int
    global_batch: int
    micro_batch: int | None
    tp: int | None
    pp: int | None
    vpp: int | None
    dp: int | None
    cp: int | None
    ep: int | None
    sp: bool | None
    zero: int | None
    shard_group: int | None
    recompute: str
    attention: str
    fused_norm: bool | None
    schedule: str
    overlap: str
    stack: str
    stack_year: int | None
    stack_version: str
    measured: Measured


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a file, in its order.

    Raises:
        ScenarioError: no such file, a missing column, a cell that cannot be read.
    """
    return [_row(_Cells(Path(path), i, values)) for i, values in enumerate(read_table(path, COLUMNS), start=1)]


@dataclass(frozen=True, slots=True)
class _Cells:
    path: Path
    number_of: int
    values: Mapping[str, str]

    def text(self, column: str) -> str:
        return self.values[column].strip()

    def wrong(self, column: str, wanted: str) -> ScenarioError:
        where = f"{self.path}, data row {self.number_of} ({self.text('id')}), column {column}"
        return ScenarioError(f"{where}: {self.text(column)!r} is not {wanted}")

    def number(self, column: str) -> float | None:
        """A number of 0 or more; None where the cell is empty."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(column, "a number") from None
        if not 0 <= value < float("inf"):
            raise self.wrong(column, "a number of 0 or more")
        return value

    def count(self, column: str) -> int | None:
        """A whole number above 0, also as ``8.0``."""
        value = self.number(column)
        if value is None:
            return None
        if not value.is_integer():
            raise self.wrong(column, "a whole number")
        return int(value)

    def needed(self, column: str) -> int:
        value = self.count(column)
        if not value:
            raise self.wrong(column, "a whole number above 0")
        return value

    def size(self, column: str) -> int | None:
        value = self.count(column)
        if value == 0:
            raise self.wrong(column, "a whole number above 0")
        return value

    def flag(self, column: str) -> bool | None:
        text = self.text(column).lower()
        if not text:
            return None
        if text not in _FLAGS:
            raise self.wrong(column, "True, False or empty")
        return _FLAGS[text]


def _row(cells: _Cells) -> Row:
    return Row(
        id=cells.text("id"),
        group=cells.text("group"),
        model=cells.text("model"),
        task=cells.text("task"),
        complete=cells.flag("config_complete") is not False,
        hardware=HardwareColumns(
            device=cells.text("device"),
            gpus=cells.needed("n_gpus"),
            gpus_per_node=cells.size("gpus_per_node") or 8,
            scale_up_domain=cells.count("scale_up_domain"),
            intra_link=cells.text("intra_link") or None,
            intra_unidir_gbs_per_gpu=cells.number("intra_unidir_gbs_per_gpu") or None,
            nics_per_node=cells.count("nics_per_node"),
            nic_gbps=cells.number("nic_gbps"),
            oversubscription=cells.number("fabric_oversubscription"),
            infiniband=re.search(r"(?<!no )infiniband", cells.values.get(_NETWORK, "").lower()) is not None,
        ),
        precision=cells.text("precision"),
        dtype=cells.text("dtype"),
        sequence=cells.needed("seq"),
        global_batch=cells.needed("global_batch"),
        micro_batch=cells.size("micro_batch"),
        tp=cells.size("tp"),
        pp=cells.size("pp"),
        vpp=cells.size("vpp"),
        dp=cells.size("dp"),
        cp=cells.size("cp"),
        ep=cells.size("ep"),
        sp=cells.flag("sp"),
        zero=cells.count("zero_stage"),
        shard_group=cells.size("shard_group"),
        recompute=cells.text("recompute"),
        attention=cells.text("attention_kernel"),
        fused_norm=cells.flag("fused_norm"),
        schedule=cells.text("schedule"),
        overlap=cells.text("overlap_flags"),
        stack=cells.text("stack"),
        stack_year=cells.count("stack_year"),
        stack_version=cells.text("stack_version"),
        measured=Measured(
            step_s=cells.number("measured_step_s") or None,
            peak_memory_gib=cells.number("peak_mem_gb") or None,
            out_of_memory=cells.flag("oom") is True,
        ),
    )
