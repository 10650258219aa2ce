"""Every weight is looked at: NaN and infinity are found wherever they are, and updates that do nothing are named."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from hub.adapter.weight_scan import scan_weights
from hub.formats.safetensors_header import parse_header

P = "base_model.model.model.layers.0.self_attn."
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


class Memory:
    def __init__(self, data):
        self.data = data

    @property
    def size(self):
        return len(self.data)

    def read(self, offset, size):
        return self.data[offset : offset + size]


def scan(tensors, progress=None):
    file = Memory(save({name: tensor.clone() for name, tensor in tensors.items()}))
    return scan_weights(file, parse_header(file.read, file.size), progress)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 1_000, -1])
def test_one_value_that_is_no_number_is_found(dtype, bad, place):
    weights = torch.randn(700_000, dtype=torch.float32).to(dtype)
    weights[place] = bad
    report = scan({P + "q_proj.lora_A.weight": weights, P + "q_proj.lora_B.weight": torch.ones(3)})
    assert report.nonfinite == (P + "q_proj.lora_A.weight",)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_and_smallest_numbers_are_numbers(dtype):
    info = torch.finfo(dtype)
    edge = torch.tensor([info.max, info.min, info.tiny, -info.tiny, info.smallest_normal, 0.0, -0.0], dtype=dtype)
    assert scan({"a.lora_A": edge}).nonfinite == ()


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(width=16, allow_nan=True, allow_infinity=True) | st.just(0.0), min_size=1, max_size=40),
    dtype=st.sampled_from(DTYPES),
)
def test_the_answer_is_torchs(values, dtype):
    tensor = torch.tensor(values, dtype=torch.float64).to(dtype)
    report = scan({"m.lora_B": tensor})
    assert bool(report.nonfinite) == (not bool(torch.isfinite(tensor).all()))
    assert bool(report.zero) == (not bool(tensor.any()))


def test_modules_whose_update_is_zero_are_named():
    ones, zeros = torch.ones(2, 2), torch.zeros(2, 2)
    report = scan(
        {
            P + "q_proj.lora_A.weight": ones,
            P + "q_proj.lora_B.weight": -zeros,
            P + "v_proj.lora_A.weight": ones,
            P + "v_proj.lora_B.weight": ones,
            "base_model.model.model.embed_tokens.lora_embedding_A": zeros,
            "base_model.model.model.embed_tokens.lora_embedding_B": ones,
            "base_model.model.score.bias": zeros,
        }
    )
    assert report.zero_modules == ("model.embed_tokens", "model.layers.0.self_attn.q_proj")
    assert report.modules == 3
    assert "base_model.model.score.bias" in report.zero


def test_progress_counts_every_byte():
    seen = []
    scan({"a.lora_A": torch.ones(600_000), "a.lora_B": torch.ones(7)}, seen.append)
    assert sum(seen) == 4 * 600_007


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_looking_at_weights_costs_about_as_much_as_hashing_them(dtype, benchmark_ratio):
    data = save({"m.lora_A": torch.randn(32 * 2**20 // dtype.itemsize).to(dtype)})
    file = Memory(data)
    header = parse_header(file.read, file.size)
    assert benchmark_ratio(lambda: scan_weights(file, header), lambda: hashlib.sha256(data).digest()) < 5
