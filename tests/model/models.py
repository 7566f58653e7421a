"""Small models of every kind, and what to ask of their operators."""

from dataclasses import replace

from simtrain.model.operators import Exchange, Kernel, Shard
from simtrain.scenario.model import GroupedQueryAttention, LatentAttention, MixtureOfExperts, Model

S, B, H, A = 512, 2, 1024, 16


def gpt(**changes):
    """A GPT layer as in Korthikanti et al. 2022: plain MLP of 4h, dropout, learned positions."""
    document = {
        "title": "gpt",
        "layers": 2,
        "hidden": H,
        "attention": GroupedQueryAttention(heads=A),
        "ffn_hidden": 4 * H,
        "vocab": 4096,
        "gated_mlp": False,
        "norm": "layernorm",
        "tied_embeddings": True,
        "learned_positions": S,
        "dropout": True,
        "source": "test",
    }
    return Model(**(document | changes))


def llama(**changes):
    attention = GroupedQueryAttention(heads=A, kv_heads=4)
    modern = {"gated_mlp": True, "norm": "rmsnorm", "learned_positions": 0, "dropout": False, "tied_embeddings": False}
    return gpt(**(modern | {"attention": attention, "ffn_hidden": 3072} | changes))


def mla(**changes):
    attention = LatentAttention(
        heads=A, q_lora_rank=192, kv_lora_rank=128, qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64
    )
    return llama(**({"attention": attention} | changes))


def mixture(**changes):
    moe = MixtureOfExperts(experts=8, top_k=2, expert_ffn_hidden=512, shared_ffn_hidden=1024)
    return llama(**({"moe": moe} | changes))


def shard(**changes):
    return replace(Shard(micro_batch=B, sequence=S), **changes)


def kernels(ops, **where):
    return [o for o in ops if isinstance(o, Kernel) and all(getattr(o, k) == v for k, v in where.items())]


def exchanges(ops, stream):
    return [(o.collective, o.bytes) for o in ops if isinstance(o, Exchange) and o.stream == stream]


def flops(ops, **where):
    return sum(o.flops for o in kernels(ops, **where))


MODELS = {"gpt": gpt(), "llama": llama(), "mla": mla(), "mixture": mixture()}
