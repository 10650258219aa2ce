"""A training step on a 4-bit base: plain PEFT as its guide has it, and this project's recipe, by turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

from benchmarks.runtime_setup import Setup, open_base
from benchmarks.turns import Row, by_turns, speed
from hub.training.base import training_dtype
from hub.training.four_bit import multiply_from_codes

ROWS, TOKENS = 4, 128


def steps(setup: Setup, repetitions: int) -> list[Row]:
    theirs, ours = _trainer(setup.base, from_codes=False), _trainer(setup.base, from_codes=True)
    times = by_turns({"PEFT": theirs, "lorahub": ours}, repetitions)
    return [speed(f"training step, NF4, r=8, {ROWS} x {TOKENS} tokens", times, "PEFT", "lorahub", 1.5)]


def _trainer(base: Path, *, from_codes: bool) -> Callable[[], Any]:
    model = open_base(base, training_dtype("cpu"))
    if from_codes:
        multiply_from_codes(model)
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    model = get_peft_model(model, config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    tokens = torch.randint(5, 4000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(1))

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()

    return step
