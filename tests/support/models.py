"""Tiny random models of every architecture that the core has a table for, made by transformers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

torch.set_num_threads(1)  # these models are too small to share

_LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS: dict[str, Any] = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

TINY_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA_LIKE,
    "llama-biased": _LLAMA_LIKE | {"attention_bias": True, "mlp_bias": True, "head_dim": 24},
    "llama-tied": _LLAMA_LIKE | {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "llama-wide": _LLAMA_LIKE | {"intermediate_size": 96},
    "granite": _LLAMA_LIKE,
    "smollm3": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE | {"head_dim": 32},
    "gemma": _LLAMA_LIKE | {"head_dim": 32},
    "gemma2": _LLAMA_LIKE | {"head_dim": 32},
    "gemma3_text": _LLAMA_LIKE | {"head_dim": 32},
    "phi": _LLAMA_LIKE,
    "phi-qk-norm": _LLAMA_LIKE | {"qk_layernorm": True},
    "phi3": _LLAMA_LIKE,
    "mixtral": _LLAMA_LIKE | {"num_local_experts": 3},
    "qwen2_moe": _LLAMA_LIKE | _EXPERTS | {"shared_expert_intermediate_size": 48, "mlp_only_layers": [1]},
    "qwen3_moe": _LLAMA_LIKE | _EXPERTS | {"decoder_sparse_step": 2},
    "gpt2": {"vocab_size": 96, "n_positions": 32, "n_embd": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 1,
             "eos_token_id": 2},
    "gpt2-wide": {"vocab_size": 96, "n_positions": 32, "n_embd": 64, "n_layer": 1, "n_head": 4, "n_inner": 96,
                  "bos_token_id": 1, "eos_token_id": 2},
    "opt": {"vocab_size": 96, "hidden_size": 64, "ffn_dim": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 32, "word_embed_proj_dim": 32},
    "opt-plain": {"vocab_size": 96, "hidden_size": 64, "ffn_dim": 80, "num_hidden_layers": 1, "num_attention_heads": 4,
                  "max_position_embeddings": 32, "word_embed_proj_dim": 64, "do_layer_norm_before": False,
                  "enable_bias": False},
    "gpt_neox": {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2,
                 "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2},
    "bloom": {"vocab_size": 96, "hidden_size": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2},
}  # fmt: skip


def tiny_config(name: str) -> transformers.PretrainedConfig:
    """Return transformers' own config of one of TINY_CONFIGS; what follows a '-' in the name is a variant."""
    return transformers.AutoConfig.for_model(name.partition("-")[0], **TINY_CONFIGS[name])


def config_json(config: transformers.PretrainedConfig, architecture: str | None = None) -> dict[str, Any]:
    """Return what transformers writes to config.json, defaults left out."""
    payload: dict[str, Any] = config.to_diff_dict()
    return payload | ({"architectures": [architecture]} if architecture else {})


def meta_model(name: str) -> transformers.PreTrainedModel:
    """Return the causal model without weights."""
    with quiet(), torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(tiny_config(name))


def tiny_model(name: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> transformers.PreTrainedModel:
    """Return the causal model with random weights, the same for the same seed."""
    torch.manual_seed(seed)
    with quiet():
        return transformers.AutoModelForCausalLM.from_config(tiny_config(name)).to(dtype).eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the remarks of transformers and PEFT about models as small as these."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            transformers.logging.set_verbosity(before)
