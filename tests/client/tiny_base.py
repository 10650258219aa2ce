"""A tiny llama's folder, made without transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
from safetensors.numpy import save_file

from hub.base.spec import BaseSpec

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 64,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
"""The llama that `write_adapter` makes adapters for."""


def write_base(folder: Path, seed: int = 0, **changes: object) -> Path:
    """Write a tiny llama's config.json and random float32 weights, shapes as transformers has them."""
    config = TINY_LLAMA | changes
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    numbers = numpy.random.default_rng(seed)
    shapes = {name: tensor.shape for name, tensor in BaseSpec.from_config(config).tensors.items()}
    weights = {name: numbers.standard_normal(shape, dtype=numpy.float32) for name, shape in shapes.items()}
    save_file(weights, str(folder / "model.safetensors"), {"format": "pt"})
    return folder
