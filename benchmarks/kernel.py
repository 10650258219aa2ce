"""The 4-bit product alone, beside a plain sum over the same bytes, which reads as fast as memory gives."""

from __future__ import annotations

import copy
from typing import Any

import torch
from bitsandbytes import functional as bnb_functional

from benchmarks.turns import Row, by_turns, medians, speed
from hub.runtime import four_bit

SHAPES = ((5_632, 2_048), (2_048, 5_632), (576, 576), (11_008, 4_096))
COLD_BYTES = 384 * 1024 * 1024
"""Weights of one shape are multiplied in turn until so many bytes were read: none is in the cache when it is used."""


def products(repetitions: int) -> list[Row]:
    rows: list[Row] = []
    for out_features, in_features in SHAPES:
        rows += _product(out_features, in_features, repetitions)
    return rows


def _product(out_features: int, in_features: int, repetitions: int) -> list[Row]:
    size = out_features * in_features // 2
    count = max(2, min(64, COLD_BYTES // size)) if size > 2**20 else 1
    weights = _copies(out_features, in_features, count)
    one, eight = torch.randn(1, in_features), torch.randn(8, in_features)

    def every(x: torch.Tensor) -> None:
        for codes, state in weights:
            four_bit.product(x, codes, state, None, None)

    def plain_sum() -> None:
        for codes, _ in weights:
            codes.view(-1).view(torch.int64).sum()

    jobs = {"a plain sum of the codes": plain_sum, "1 row": lambda: every(one), "8 rows": lambda: every(eight)}
    times = {name: [value / count for value in taken] for name, taken in by_turns(jobs, repetitions, 2).items()}
    name = f"kernel, {out_features} x {in_features}"
    found = medians(times)
    eight_for_one = found["8 rows"] / found["1 row"]
    return [
        speed(f"{name}, 1 row", times, "a plain sum of the codes", "1 row", 0.6 if count > 1 else None),
        Row(f"{name}, 8 rows", f"{eight_for_one:.2f}x the time of 1 row", found),
    ]


def _copies(out_features: int, in_features: int, count: int) -> list[tuple[torch.Tensor, Any]]:
    """Return one random weight `count` times, each with codes and statistics of its own in memory."""
    weight = torch.randn(out_features, in_features, generator=torch.Generator().manual_seed(0))
    codes, state = bnb_functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    return [(codes.clone(), copy.deepcopy(state)) for _ in range(count)]
