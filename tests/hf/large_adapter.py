"""Adapters of any size, written in the time that random bytes take."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.adapters import write_adapter, write_safetensors


def large_adapter(folder: Path, size: int, seed: int = 0) -> Path:
    """Write an adapter of rank 4 whose tensors have about `size` bytes together."""
    write_adapter(folder, readme="# A large adapter\n")
    numbers, columns = random.Random(seed), size // (8 * 4 * 4)
    tensors = {}
    for layer in range(2):
        for target in ("q_proj", "v_proj"):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            tensors[f"{prefix}.lora_A.weight"] = ((4, columns), small_floats(numbers, 4 * columns))
            tensors[f"{prefix}.lora_B.weight"] = ((columns, 4), small_floats(numbers, 4 * columns))
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


def small_floats(numbers: random.Random, count: int) -> bytes:
    """Return `count` float32 numbers: the byte of the exponent is set, so none is NaN; the others are random."""
    data = bytearray(numbers.randbytes(4 * count))
    data[3::4] = b"\x3c" * count
    return bytes(data)
