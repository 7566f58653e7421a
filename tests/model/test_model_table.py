"""Reading models from a table, and what is said about a bad one."""

import pytest

from simtrain.errors import ScenarioError
from simtrain.importers.model_table import COLUMNS, read_models
from simtrain.scenario.model import GroupedQueryAttention, LatentAttention

DENSE = {
    "model": "tiny",
    "layers": "2",
    "hidden": "64",
    "heads": "4",
    "kv_heads": "2",
    "head_dim": "16.0",
    "ffn_hidden": "128",
    "vocab": "100",
    "gated_mlp": "True",
    "tied_embeddings": "False",
    "n_experts": "0",
}


def _write(tmp_path, *rows, columns=(*COLUMNS, "unknown_extra")):
    path = tmp_path / "models.csv"
    lines = [",".join(columns)]
    lines += [",".join(f'"{row.get(column, "")}"' for column in columns) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_dense_row(tmp_path):
    model = read_models(_write(tmp_path, DENSE))["tiny"]
    assert model.attention == GroupedQueryAttention(heads=4, kv_heads=2, head_dim=16)
    assert (model.layers, model.hidden, model.ffn_hidden, model.vocab) == (2, 64, 128, 100)
    assert model.moe is None
    assert not model.linear_bias
    assert "models.csv" in model.source


def test_a_row_with_latent_attention_and_experts(tmp_path):
    row = DENSE | {
        "mla_q_lora": "24",
        "mla_kv_lora": "8",
        "mla_qk_nope": "16",
        "mla_qk_rope": "4",
        "mla_v_head": "16",
        "n_experts": "8",
        "topk": "2",
        "moe_ffn_hidden": "32",
        "shared_ffn_hidden": "32",
        "note": "MoE every 2nd layer, rest dense",
    }
    model = read_models(_write(tmp_path, row))["tiny"]
    assert isinstance(model.attention, LatentAttention)
    assert model.attention.q_lora_rank == 24
    assert (model.moe.experts, model.moe.top_k, model.moe.every) == (8, 2, 2)


def test_learned_positions_need_the_note_and_a_length(tmp_path):
    note = "learned positions (max_seq_len x hidden) counted"
    rows = [
        DENSE | {"model": "a-s512", "note": note},
        DENSE | {"model": "b-s512"},
        DENSE | {"model": "c", "note": note},
    ]
    models = read_models(_write(tmp_path, *rows))
    assert [m.learned_positions for m in models.values()] == [512, 0, 0]


def test_heirs_of_gpt2_have_biases_unless_the_note_lists_what_counts(tmp_path):
    heir = DENSE | {"gated_mlp": "False", "tied_embeddings": "True"}
    models = read_models(_write(tmp_path, heir, heir | {"model": "listed", "note": "positions counted"}))
    assert models["tiny"].linear_bias
    assert models["tiny"].attention.bias
    assert not models["listed"].linear_bias


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": "many"}, ["line 2", "layers", "'many'", "whole number"]),
        ({"hidden": "64.5"}, ["line 2", "hidden", "'64.5'"]),
        ({"heads": ""}, ["line 2", "heads", "''"]),
        ({"vocab": "-3"}, ["line 2", "vocab", "'-3'"]),
        ({"vocab": "inf"}, ["line 2", "vocab", "'inf'"]),
        ({"gated_mlp": "perhaps"}, ["line 2", "gated_mlp", "'perhaps'", "True or False"]),
        ({"layers": "0"}, ["line 2", "tiny", "layers", "greater than or equal to 1"]),
        ({"model": ""}, ["line 2", "model"]),
    ],
)
def test_a_bad_value_is_named_with_its_place(tmp_path, change, words):
    path = _write(tmp_path, DENSE | change)
    with pytest.raises(ScenarioError) as caught:
        read_models(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_missing_column_is_named(tmp_path):
    path = _write(tmp_path, DENSE, columns=[c for c in COLUMNS if c != "vocab"])
    with pytest.raises(ScenarioError, match=r"no column vocab"):
        read_models(path)


def test_a_short_row_is_a_bad_value(tmp_path):
    path = tmp_path / "models.csv"
    path.write_text(",".join(COLUMNS) + "\ntiny,2\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match="column gated_mlp: ''"):
        read_models(path)


def test_a_name_twice_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="line 3, column model: 'tiny' is not a name that no other row has"):
        read_models(_write(tmp_path, DENSE, DENSE))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_models(tmp_path / "absent.csv")
