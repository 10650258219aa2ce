"""Run a model in a process that was spawned: it gets the model as a pickle, and nothing else."""

from __future__ import annotations

import multiprocessing
from typing import Any

import torch


def answer(model: Any, tokens: torch.Tensor, out: Any) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        out.put(model(input_ids=tokens).logits.numpy())


def answer_in_another_process(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    context = multiprocessing.get_context("spawn")
    out = context.SimpleQueue()
    process = context.Process(target=answer, args=(model, tokens, out))
    process.start()
    try:
        process.join(timeout=120)
        assert process.exitcode == 0
        return torch.from_numpy(out.get())
    finally:
        process.kill()
