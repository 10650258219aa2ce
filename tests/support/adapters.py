"""Real, small PEFT folders, made without torch: what a trainer leaves on disk, from a seed."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from safetensors.numpy import save_file

KINDS = {
    "q_proj": ("self_attn", 1, 1),
    "k_proj": ("self_attn", 1, 1),
    "v_proj": ("self_attn", 1, 1),
    "o_proj": ("self_attn", 1, 1),
    "gate_proj": ("mlp", 1, 2),
    "up_proj": ("mlp", 1, 2),
    "down_proj": ("mlp", 2, 1),
}
"""Llama's linears: the parent module, then in and out features as multiples of the hidden size."""


def write_adapter(
    folder: Path,
    *,
    rank: int = 4,
    alpha: int = 8,
    layers: int = 2,
    hidden: int = 32,
    targets: Sequence[str] = ("q_proj", "v_proj"),
    seed: int = 0,
    base: str | None = "tests/tiny-llama",
    readme: str | None = None,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, tuple[tuple[int, ...], bytes]] | None = None,
) -> Path:
    """Write a float32 LoRA adapter for a llama of `layers` x `hidden`, as PEFT does; return the folder.

    config: fields that replace those of adapter_config.json.
    tensors: (shape, float32 bytes) that replace or join the random ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = lora_config(rank, alpha, targets, base) | dict(config or {})
    (folder / "adapter_config.json").write_text(json.dumps(written, indent=2), "utf-8")
    pairs = lora_tensors(rank, layers, hidden, targets, seed) | dict(tensors or {})
    write_safetensors(folder / "adapter_model.safetensors", pairs)
    if readme is not None:
        (folder / "README.md").write_text(readme, "utf-8")
    return folder


def lora_config(rank: int, alpha: int, targets: Sequence[str], base: str | None) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": None,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": list(targets),
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": None,
        "inference_mode": True,
        "init_lora_weights": True,
    }


def lora_tensors(
    rank: int, layers: int, hidden: int, targets: Sequence[str], seed: int
) -> dict[str, tuple[tuple[int, ...], bytes]]:
    numbers = random.Random(seed)
    made: dict[str, tuple[tuple[int, ...], bytes]] = {}
    for layer in range(layers):
        for target in targets:
            parent, fan_in, fan_out = KINDS[target]
            prefix = f"base_model.model.model.layers.{layer}.{parent}.{target}"
            made[f"{prefix}.lora_A.weight"] = random_tensor(numbers, (rank, fan_in * hidden))
            made[f"{prefix}.lora_B.weight"] = random_tensor(numbers, (fan_out * hidden, rank))
    return made


def random_tensor(numbers: random.Random, shape: tuple[int, int]) -> tuple[tuple[int, ...], bytes]:
    count = shape[0] * shape[1]
    return shape, array("f", (numbers.gauss(0.0, 0.02) for _ in range(count))).tobytes()


def write_safetensors(path: Path, tensors: Mapping[str, tuple[tuple[int, ...], bytes]]) -> None:
    """Write float32 tensors with the safetensors library."""
    arrays = {name: numpy.frombuffer(data, numpy.float32).reshape(shape) for name, (shape, data) in tensors.items()}
    save_file(arrays, str(path), {"format": "pt"})
