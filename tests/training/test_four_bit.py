"""Training on a 4-bit base through the runtime's products gives the gradients that bitsandbytes' own layers give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from hub.training.four_bit import FromCodes, multiply_from_codes
from tests.training.bases import write_base

TOKENS = torch.tensor([[5, 17, 3, 88, 42, 7, 7, 61], [9, 1, 30, 12, 95, 2, 64, 33]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Widths that bitsandbytes dequantizes rightly on every CPU: multiples of its block of 64.
    return write_base(tmp_path_factory.mktemp("base") / "b", intermediate_size=128)


def opened(base: Path) -> Any:
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, quantization_config=settings)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def gradients(model: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)).train()
    adapted(input_ids=TOKENS, labels=TOKENS).loss.backward()
    return {name: value.grad for name, value in adapted.named_parameters() if value.grad is not None}


def test_gradients_are_those_of_bitsandbytes_own_layers(base: Path) -> None:
    theirs = gradients(opened(base))
    model = opened(base)
    assert multiply_from_codes(model) == 14  # seven linears in each of two layers
    ours = gradients(model)
    assert ours.keys() == theirs.keys() != set()
    for name, value in theirs.items():
        assert (ours[name] - value).norm() <= 1e-4 * value.norm(), name


def test_layers_keep_their_kind_their_names_and_their_codes(base: Path) -> None:
    plain, model = opened(base), opened(base)
    multiply_from_codes(model)
    assert [n for n, m in model.named_modules() if isinstance(m, FromCodes)]
    before, after = plain.state_dict(), model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items() if isinstance(value, torch.Tensor))
