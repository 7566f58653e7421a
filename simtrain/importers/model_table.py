"""Models from a CSV table: one architecture a row.

Columns (others are ignored): ``model``, ``layers``, ``hidden``, ``heads``, ``kv_heads``, ``head_dim``, ``ffn_hidden``,
``vocab``, ``gated_mlp``, ``tied_embeddings``, ``n_experts``, ``topk``, ``shared_ffn_hidden``, ``moe_ffn_hidden``,
``first_dense_layers``, ``mla_q_lora``, ``mla_kv_lora``, ``mla_qk_nope``, ``mla_qk_rope``, ``mla_v_head``, ``note``.
A filled ``mla_kv_lora`` makes attention latent, ``n_experts`` above 0 makes the MLP experts.  The note may say two
things that have no column: ``MoE every 2nd layer``, and ``learned positions``, whose table is as long as the
sequence that ends the name (``…-s2048``).

Biases have no column either.  A plain MLP with tied tables is the shape of GPT-2 and its heirs, which have them on
every linear layer; they are left out where the note lists what ``counted``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simtrain.errors import ScenarioError
from simtrain.scenario.model import Model

__all__ = ["COLUMNS", "read_models"]

COLUMNS = (
    *("model", "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn_hidden", "vocab", "gated_mlp"),
    *("tied_embeddings", "n_experts", "topk", "shared_ffn_hidden", "moe_ffn_hidden", "first_dense_layers"),
    *("mla_q_lora", "mla_kv_lora", "mla_qk_nope", "mla_qk_rope", "mla_v_head", "note"),
)
_EVERY = re.compile(r"MoE every (\d+)(?:st|nd|rd|th) layer")
_SEQUENCE_SUFFIX = re.compile(r"-s(\d+)$")
_FLAGS = {"true": True, "false": False}


def read_models(path: str | Path) -> dict[str, Model]:
    """The models of a table, by name, in its order.

    Raises:
        ScenarioError: no such file, a missing column, a value that cannot be read or is not allowed, a name twice.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise ScenarioError(f"{path}: no column {', '.join(missing)}; needed: {', '.join(COLUMNS)}")
            rows = [_Row(path, reader.line_num, values) for values in reader]
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from error
    models: dict[str, Model] = {}
    for row in rows:
        name = row.text("model")
        if not name or name in models:
            raise row.wrong("model", "a name that no other row has")
        models[name] = _model(row)
    return models


@dataclass(frozen=True, slots=True)
class _Row:
    path: Path
    line: int
    values: Mapping[str, str | None]

    def text(self, column: str) -> str:
        return (self.values[column] or "").strip()

    def wrong(self, column: str, wanted: str) -> ScenarioError:
        return ScenarioError(f"{self.path}, line {self.line}, column {column}: {self.text(column)!r} is not {wanted}")

    def count(self, column: str, default: int | None = None) -> int:
        """A whole number, also as ``128.0``; ``default`` where the cell is empty."""
        text = self.text(column)
        if not text and default is not None:
            return default
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not number.is_integer() or number < 0:
            raise self.wrong(column, "a whole number of 0 or more")
        return int(number)

    def flag(self, column: str) -> bool:
        value = _FLAGS.get(self.text(column).lower())
        if value is None:
            raise self.wrong(column, "True or False")
        return value


def _model(row: _Row) -> Model:
    name, note = row.text("model"), row.text("note")
    gated, tied = row.flag("gated_mlp"), row.flag("tied_embeddings")
    biases = tied and not gated and "counted" not in note
    document = {
        "title": name,
        "layers": row.count("layers"),
        "hidden": row.count("hidden"),
        "attention": _attention(row, biases),
        "ffn_hidden": row.count("ffn_hidden"),
        "vocab": row.count("vocab"),
        "gated_mlp": gated,
        "linear_bias": biases,
        "norm": "rmsnorm" if gated else "layernorm",
        "tied_embeddings": tied,
        "learned_positions": _positions(name, note),
        "moe": _moe(row, note),
        "source": f"{row.path.name}, model {name}" + (f": {note}" if note else ""),
    }
    try:
        return Model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ScenarioError(
            f"{row.path}, line {row.line}, model {name}, {key}: {first['input']!r}: {first['msg']}"
        ) from error


def _attention(row: _Row, bias: bool) -> dict[str, Any]:
    if not row.text("mla_kv_lora"):
        counts = {key: row.count(key) for key in ("heads", "kv_heads", "head_dim")}
        return {"kind": "gqa", "bias": bias, **counts}
    return {
        "kind": "mla",
        "heads": row.count("heads"),
        "q_lora_rank": row.count("mla_q_lora", default=0) or None,
        "kv_lora_rank": row.count("mla_kv_lora"),
        "qk_nope_head_dim": row.count("mla_qk_nope"),
        "qk_rope_head_dim": row.count("mla_qk_rope"),
        "v_head_dim": row.count("mla_v_head"),
    }


def _moe(row: _Row, note: str) -> dict[str, int] | None:
    experts = row.count("n_experts", default=0)
    if not experts:
        return None
    every = _EVERY.search(note)
    return {
        "experts": experts,
        "top_k": row.count("topk"),
        "expert_ffn_hidden": row.count("moe_ffn_hidden"),
        "shared_ffn_hidden": row.count("shared_ffn_hidden", default=0),
        "first_dense_layers": row.count("first_dense_layers", default=0),
        "every": int(every.group(1)) if every else 1,
    }


def _positions(name: str, note: str) -> int:
    suffix = _SEQUENCE_SUFFIX.search(name)
    return int(suffix.group(1)) if suffix and "learned positions" in note else 0
