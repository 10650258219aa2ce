"""Adapters that PEFT itself made, on tiny models, and their folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model

from tests.support.models import quiet, tiny_model

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("llama", {"target_modules": ["q_proj", "v_proj"]}),
    "all-linear": ("llama", {"target_modules": "all-linear"}),
    "rslora": ("qwen3", {"target_modules": ["q_proj", "up_proj"], "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "k_proj", "down_proj"],
            "rank_pattern": {"layers.1.self_attn.q_proj": 2, r".*k_proj": 6},
            "alpha_pattern": {r"^model\.layers\.0\.mlp\.down_proj": 32},
        },
    ),
    "regex-targets": ("mistral", {"target_modules": r".*\.layers\.1\.(self_attn|mlp)\.(q|down)_proj"}),
    "one-layer": ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [1]}),
    "layer-pattern": ("gpt2", {"target_modules": ["c_attn"], "layers_to_transform": 0, "layers_pattern": "h"}),
    "excluded": ("llama", {"target_modules": ["q_proj"], "exclude_modules": ["model.layers.0.self_attn.q_proj"]}),
    "dora": ("llama", {"target_modules": ["q_proj", "o_proj"], "use_dora": True}),
    "bias-all": ("llama-biased", {"target_modules": ["q_proj"], "bias": "all"}),
    "bias-lora-only": ("llama-biased", {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "bias-all-norms": ("gpt2", {"target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}),
    "lora-bias": ("llama-biased", {"target_modules": ["q_proj", "down_proj"], "lora_bias": True}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "conv1d-dora": ("gpt2", {"target_modules": ["c_proj"], "fan_in_fan_out": True, "use_dora": True}),
    "fused-qkv": ("bloom", {"target_modules": ["query_key_value"]}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding-and-head": ("llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    "modules-to-save": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "input_layernorm"]}),
    "modules-to-save-tied": ("llama-tied", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [1, 3, 90]}),
    "tokens-tied": ("llama-tied", {"target_modules": ["q_proj"], "trainable_token_indices": [5]}),
    "tokens-named": ("gpt2", {"target_modules": ["c_attn"], "trainable_token_indices": {"wte": [0, 2]}}),
    "grouped-query": ("qwen2", {"target_modules": ["k_proj", "v_proj"], "lora_alpha": 3.5}),
}  # fmt: skip
"""name -> (tiny model, what LoraConfig is made of)."""


@dataclass(frozen=True)
class Trained:
    """One variant: PEFT's model and config, and the folder that PEFT saved."""

    model: PeftModel
    config: PeftLoraConfig
    base: str
    folder: Path


def train(variant: str, folder: Path, **overrides: Any) -> Trained:
    """Make an adapter with random weights in every tensor, as training would leave them, and save it with PEFT."""
    base, settings = VARIANTS[variant]
    with quiet():
        model = get_peft_model(
            tiny_model(base), PeftLoraConfig(**{"r": 4, "task_type": "CAUSAL_LM"} | settings | overrides)
        )
        torch.manual_seed(11)
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name or "trainable_tokens_delta" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        model.save_pretrained(folder)
    return Trained(model, model.peft_config["default"], base, folder)
