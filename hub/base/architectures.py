"""Tensor names and shapes of well-known architectures, computed from `config.json` alone.

Names are those of the model that transformers builds, which for mixtures of experts differ from those in older files:
`hub.base.checkpoint` translates.  A tied output layer is a module without a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.base.blueprint import MAX_LAYERS, Blueprint, ModelConfig
from hub.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Architecture:
    """How models of one `model_type` are built.

    prefix: of the names below the head; some files leave it out.  tied: transformers' default for a config that
    doesn't say.  renamed: (name in old files, name in the model).  dropped: ends of names that are no parameters.
    """

    body: Callable[[ModelConfig, Blueprint], int]
    prefix: str = "model."
    tied: bool = False
    head_bias: bool = False
    renamed: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()
    conv1d: bool = False


def blueprint(config: Mapping[str, Any]) -> Blueprint:
    """Return the tensors and modules of the model that `config`, a parsed config.json, describes.

    Raises Unsupported for an architecture without a table here, InvalidRequest for a config that lacks a size.
    """
    model_type = str(config.get("model_type"))
    architecture = table_of(config)
    if architecture is None:
        raise Unsupported(
            f"The shapes of {model_type!r} models can't be told from config.json alone. "
            "Give the model's folder, whose safetensors files name them.",
            model_type=model_type,
        )
    plan, read = Blueprint(), ModelConfig(config)
    width = architecture.body(read, plan)
    _add_head(read, plan, architecture, width)
    return plan


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the output layer shares the input embedding's weight."""
    architecture = ARCHITECTURES.get(str(config.get("model_type")))
    return ModelConfig(config).flag("tie_word_embeddings", architecture is not None and architecture.tied)


def head_of(config: Mapping[str, Any]) -> str:
    """Return `lm`, `classifier`, `none` (the bare model) or `other`, by the class that config.json names."""
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else "ForCausalLM"
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "lm"
    if name.endswith("ForSequenceClassification"):
        return "classifier"
    return "none" if name.endswith("Model") else "other"


def table_of(config: Mapping[str, Any]) -> Architecture | None:
    """Return how the model that `config` describes is built; None for a kind, or a head, without a table here."""
    return None if head_of(config) == "other" else ARCHITECTURES.get(str(config.get("model_type")))


def _add_head(config: ModelConfig, plan: Blueprint, architecture: Architecture, width: int) -> None:
    head = head_of(config.raw)
    if head == "lm":
        plan.output("lm_head", config.size("vocab_size"), width, is_tied(config.raw), architecture.head_bias)
    elif head == "classifier":
        labels = config.raw.get("id2label") or {"0": "", "1": ""}
        plan.linear("score", len(labels), width)
    else:
        for names in (plan.tensors, plan.modules):
            for name in list(names):
                names[name.removeprefix(architecture.prefix)] = names.pop(name)  # type: ignore[assignment]


def _attention(c: ModelConfig, plan: Blueprint, layer: str, *, qkv_bias: bool, out_bias: bool) -> int:
    """Add q, k, v and o of grouped-query attention; return the size of one head."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    groups, head = c.size("num_key_value_heads", heads), c.size("head_dim", hidden // heads)
    plan.linear(f"{layer}.self_attn.q_proj", heads * head, hidden, qkv_bias)
    plan.linear(f"{layer}.self_attn.k_proj", groups * head, hidden, qkv_bias)
    plan.linear(f"{layer}.self_attn.v_proj", groups * head, hidden, qkv_bias)
    plan.linear(f"{layer}.self_attn.o_proj", hidden, heads * head, out_bias)
    return head


def _gated_mlp(plan: Blueprint, name: str, hidden: int, inner: int, bias: bool = False) -> None:
    plan.linear(f"{name}.gate_proj", inner, hidden, bias)
    plan.linear(f"{name}.up_proj", inner, hidden, bias)
    plan.linear(f"{name}.down_proj", hidden, inner, bias)


def _experts(plan: Blueprint, name: str, hidden: int, inner: int, count: int) -> None:
    plan.parameter(f"{name}.gate.weight", count, hidden)
    plan.parameter(f"{name}.experts.gate_up_proj", count, 2 * inner, hidden)
    plan.parameter(f"{name}.experts.down_proj", count, hidden, inner)


def _qk_norms(plan: Blueprint, layer: str, head: int) -> None:
    plan.norm(f"{layer}.self_attn.q_norm", head)
    plan.norm(f"{layer}.self_attn.k_norm", head)


_Layer = Callable[[ModelConfig, Blueprint, str, int], None]


def _llama_body(add_layer: _Layer, norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")) -> Any:
    """Return the body of a llama-like decoder whose layers `add_layer(config, plan, "model.layers.3", 3)` fills."""

    def body(c: ModelConfig, plan: Blueprint) -> int:
        hidden = c.size("hidden_size")
        plan.embedding("model.embed_tokens", c.size("vocab_size"), hidden)
        for index in c.layers():
            layer = f"model.layers.{index}"
            add_layer(c, plan, layer, index)
            for norm in norms:
                plan.norm(f"{layer}.{norm}", hidden)
        plan.norm("model.norm", hidden)
        return hidden

    return body


def _dense_mlp(c: ModelConfig, plan: Blueprint, layer: str, bias: bool = False) -> None:
    _gated_mlp(plan, f"{layer}.mlp", c.size("hidden_size"), c.size("intermediate_size"), bias)


def _llama(c: ModelConfig, plan: Blueprint, layer: str, _: int) -> None:
    bias = c.flag("attention_bias", False)
    _attention(c, plan, layer, qkv_bias=bias, out_bias=bias)
    _dense_mlp(c, plan, layer, c.flag("mlp_bias", False))


def _mistral(c: ModelConfig, plan: Blueprint, layer: str, _: int) -> None:
    _attention(c, plan, layer, qkv_bias=False, out_bias=False)
    _dense_mlp(c, plan, layer)


def _qwen2(c: ModelConfig, plan: Blueprint, layer: str, _: int) -> None:
    _attention(c, plan, layer, qkv_bias=True, out_bias=False)
    _dense_mlp(c, plan, layer)


def _with_qk_norms(c: ModelConfig, plan: Blueprint, layer: str, _: int) -> None:
    bias = c.flag("attention_bias", False)
    _qk_norms(plan, layer, _attention(c, plan, layer, qkv_bias=bias, out_bias=bias))
    _dense_mlp(c, plan, layer)


def _phi3(c: ModelConfig, plan: Blueprint, layer: str, _: int) -> None:
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    groups, head = c.size("num_key_value_heads", heads), c.size("head_dim", hidden // heads)
    inner = c.size("intermediate_size")
    plan.linear(f"{layer}.self_attn.qkv_proj", (heads + 2 * groups) * head, hidden)
    plan.linear(f"{layer}.self_attn.o_proj", hidden, heads * head)
    plan.linear(f"{layer}.mlp.gate_up_proj", 2 * inner, hidden)
    plan.linear(f"{layer}.mlp.down_proj", hidden, inner)


def _mixtral(c: ModelConfig, plan: Blueprint, layer: str, _: int) -> None:
    _attention(c, plan, layer, qkv_bias=False, out_bias=False)
    _experts(plan, f"{layer}.mlp", c.size("hidden_size"), c.size("intermediate_size"), c.size("num_local_experts", 8))


def _is_sparse(c: ModelConfig, index: int) -> bool:
    dense = c.raw.get("mlp_only_layers") or []
    return index not in dense and (index + 1) % c.size("decoder_sparse_step", 1) == 0


def _qwen2_moe(c: ModelConfig, plan: Blueprint, layer: str, index: int) -> None:
    _attention(c, plan, layer, qkv_bias=c.flag("qkv_bias", True), out_bias=False)
    if not _is_sparse(c, index):
        return _dense_mlp(c, plan, layer)
    hidden, mlp = c.size("hidden_size"), f"{layer}.mlp"
    _experts(plan, mlp, hidden, c.size("moe_intermediate_size", 1408), c.size("num_experts", 60))
    _gated_mlp(plan, f"{mlp}.shared_expert", hidden, c.size("shared_expert_intermediate_size", 5632))
    return plan.linear(f"{mlp}.shared_expert_gate", 1, hidden)


def _qwen3_moe(c: ModelConfig, plan: Blueprint, layer: str, index: int) -> None:
    bias = c.flag("attention_bias", False)
    _qk_norms(plan, layer, _attention(c, plan, layer, qkv_bias=bias, out_bias=bias))
    if not _is_sparse(c, index):
        return _dense_mlp(c, plan, layer)
    count = c.size("num_local_experts", c.size("num_experts", 128))
    return _experts(plan, f"{layer}.mlp", c.size("hidden_size"), c.size("moe_intermediate_size", 768), count)


def _phi_body(c: ModelConfig, plan: Blueprint) -> int:
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    head, inner = hidden // heads, c.size("intermediate_size")
    groups = c.size("num_key_value_heads", heads)
    plan.embedding("model.embed_tokens", c.size("vocab_size"), hidden)
    for index in c.layers():
        layer = f"model.layers.{index}"
        plan.linear(f"{layer}.self_attn.q_proj", heads * head, hidden, bias=True)
        plan.linear(f"{layer}.self_attn.k_proj", groups * head, hidden, bias=True)
        plan.linear(f"{layer}.self_attn.v_proj", groups * head, hidden, bias=True)
        plan.linear(f"{layer}.self_attn.dense", hidden, heads * head, bias=True)
        if c.flag("qk_layernorm", False):
            plan.norm(f"{layer}.self_attn.q_layernorm", head, bias=True)
            plan.norm(f"{layer}.self_attn.k_layernorm", head, bias=True)
        plan.linear(f"{layer}.mlp.fc1", inner, hidden, bias=True)
        plan.linear(f"{layer}.mlp.fc2", hidden, inner, bias=True)
        plan.norm(f"{layer}.input_layernorm", hidden, bias=True)
    plan.norm("model.final_layernorm", hidden, bias=True)
    return hidden


def _gpt2_body(c: ModelConfig, plan: Blueprint) -> int:
    hidden = c.size("n_embd", c.raw.get("hidden_size") or 768)
    inner = c.size("n_inner", 4 * hidden)
    plan.embedding("transformer.wte", c.size("vocab_size", 50257), hidden)
    plan.embedding("transformer.wpe", c.size("n_positions", c.raw.get("max_position_embeddings") or 1024), hidden)
    for index in range(c.size("n_layer", c.raw.get("num_hidden_layers") or 12, most=MAX_LAYERS)):
        layer = f"transformer.h.{index}"
        plan.norm(f"{layer}.ln_1", hidden, bias=True)
        plan.conv1d(f"{layer}.attn.c_attn", hidden, 3 * hidden)
        plan.conv1d(f"{layer}.attn.c_proj", hidden, hidden)
        plan.norm(f"{layer}.ln_2", hidden, bias=True)
        plan.conv1d(f"{layer}.mlp.c_fc", hidden, inner)
        plan.conv1d(f"{layer}.mlp.c_proj", inner, hidden)
    plan.norm("transformer.ln_f", hidden, bias=True)
    return hidden


def _opt_body(c: ModelConfig, plan: Blueprint) -> int:
    hidden, inner = c.size("hidden_size"), c.size("ffn_dim")
    width, bias = c.size("word_embed_proj_dim", hidden), c.flag("enable_bias", True)
    affine = c.flag("layer_norm_elementwise_affine", True)
    plan.embedding("model.decoder.embed_tokens", c.size("vocab_size"), width)
    # The first two positions are for padding.
    plan.embedding("model.decoder.embed_positions", c.size("max_position_embeddings", 2048) + 2, hidden)
    if width != hidden:
        plan.linear("model.decoder.project_out", width, hidden)
        plan.linear("model.decoder.project_in", hidden, width)
    if affine and c.flag("do_layer_norm_before", True) and not c.flag("_remove_final_layer_norm", False):
        plan.norm("model.decoder.final_layer_norm", hidden, bias=True)
    for index in c.layers():
        layer = f"model.decoder.layers.{index}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            plan.linear(f"{layer}.self_attn.{name}", hidden, hidden, bias)
        plan.linear(f"{layer}.fc1", inner, hidden, bias)
        plan.linear(f"{layer}.fc2", hidden, inner, bias)
        if affine:
            plan.norm(f"{layer}.self_attn_layer_norm", hidden, bias=True)
            plan.norm(f"{layer}.final_layer_norm", hidden, bias=True)
    return width


def _fused_layer(plan: Blueprint, layer: str, attention: str, hidden: int, inner: int, bias: bool = True) -> None:
    """Add a layer with q, k and v in one matrix, as BLOOM and GPT-NeoX have it."""
    plan.linear(f"{layer}.{attention}.query_key_value", 3 * hidden, hidden, bias)
    plan.linear(f"{layer}.{attention}.dense", hidden, hidden, bias)
    plan.linear(f"{layer}.mlp.dense_h_to_4h", inner, hidden, bias=True)
    plan.linear(f"{layer}.mlp.dense_4h_to_h", hidden, inner, bias=True)
    plan.norm(f"{layer}.input_layernorm", hidden, bias=True)
    plan.norm(f"{layer}.post_attention_layernorm", hidden, bias=True)


def _gpt_neox_body(c: ModelConfig, plan: Blueprint) -> int:
    hidden = c.size("hidden_size")
    plan.embedding("gpt_neox.embed_in", c.size("vocab_size"), hidden)
    for index in c.layers():
        bias = c.flag("attention_bias", True)
        _fused_layer(plan, f"gpt_neox.layers.{index}", "attention", hidden, c.size("intermediate_size"), bias)
    plan.norm("gpt_neox.final_layer_norm", hidden, bias=True)
    return hidden


def _bloom_body(c: ModelConfig, plan: Blueprint) -> int:
    # Old configs say n_embed.
    hidden = c.size("hidden_size", c.raw.get("n_embed") or 64)
    plan.embedding("transformer.word_embeddings", c.size("vocab_size"), hidden)
    plan.norm("transformer.word_embeddings_layernorm", hidden, bias=True)
    for index in range(c.size("n_layer", c.raw.get("num_hidden_layers") or 2, most=MAX_LAYERS)):
        _fused_layer(plan, f"transformer.h.{index}", "self_attention", hidden, 4 * hidden)
    plan.norm("transformer.ln_f", hidden, bias=True)
    return hidden


_FOUR_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_INV_FREQ = (".rotary_emb.inv_freq",)

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(_llama_body(_llama), dropped=_INV_FREQ),
    "granite": Architecture(_llama_body(_llama), tied=True),
    "smollm3": Architecture(_llama_body(_llama), tied=True),
    "mistral": Architecture(_llama_body(_mistral), dropped=_INV_FREQ),
    "qwen2": Architecture(_llama_body(_qwen2), dropped=_INV_FREQ),
    "qwen3": Architecture(_llama_body(_with_qk_norms), dropped=_INV_FREQ),
    "gemma": Architecture(_llama_body(_llama), tied=True),
    "gemma2": Architecture(_llama_body(_llama, _FOUR_NORMS), tied=True),
    "gemma3_text": Architecture(_llama_body(_with_qk_norms, _FOUR_NORMS), tied=True),
    "phi": Architecture(_phi_body, head_bias=True, dropped=_INV_FREQ),
    "phi3": Architecture(_llama_body(_phi3), dropped=_INV_FREQ),
    "mixtral": Architecture(_llama_body(_mixtral), renamed=((".block_sparse_moe.", ".mlp."),), dropped=_INV_FREQ),
    "qwen2_moe": Architecture(_llama_body(_qwen2_moe), dropped=_INV_FREQ),
    "qwen3_moe": Architecture(_llama_body(_qwen3_moe), dropped=_INV_FREQ),
    "gpt2": Architecture(
        _gpt2_body, prefix="transformer.", tied=True, dropped=(".attn.bias", ".attn.masked_bias"), conv1d=True
    ),
    "opt": Architecture(_opt_body, tied=True),
    "gpt_neox": Architecture(
        _gpt_neox_body,
        prefix="gpt_neox.",
        renamed=(("embed_out.", "lm_head."),),
        dropped=(*_INV_FREQ, ".attention.bias", ".attention.masked_bias"),
    ),
    "bloom": Architecture(_bloom_body, prefix="transformer.", tied=True),
}
