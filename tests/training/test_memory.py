"""The memory plan, part by part, against the tensors of a real training step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

import hub
from hub.base.spec import BaseSpec
from hub.errors import InvalidRequest
from hub.training.base import TrainingBase, load_model
from hub.training.encoding import Row
from hub.training.loss import completion_loss
from tests.training.bases import write_base

ALL_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA_2_7B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "tie_word_embeddings": False,
    "dtype": "float16",
}


def kept_bytes(model: Any, rows: list[Row]) -> int:
    """Return the bytes that autograd keeps for the backward pass, each storage once, without the model's own."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # holding it keeps its address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        completion_loss(model, rows)
    return sum(storage.nbytes() for storage in kept.values())


def model_bytes(model: Any) -> int:
    """Return the bytes of a model's weights, with the scales and tables of packed ones."""
    total = 0
    for weight in dict.fromkeys(model.parameters()):
        total += weight.numel() * weight.element_size()
        state = getattr(weight, "quant_state", None)
        if state is not None:
            nested = [state.state2.absmax, state.state2.code, state.offset]
            total += sum(tensor.numel() * tensor.element_size() for tensor in [state.absmax, state.code, *nested])
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"], ALL_LINEARS])
def test_activations_are_what_autograd_keeps(tmp_path: Path, targets: list[str], dtype: torch.dtype) -> None:
    base = write_base(tmp_path / "base", hidden_size=96, intermediate_size=256, num_hidden_layers=3, head_dim=24)
    model = load_model(TrainingBase.open(base), "cpu", None).to(dtype)
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM"))
    rows = [Row((index, *range(1, 48)), 28) for index in range(4)]
    planned = hub.plan(
        base,
        rank=8,
        target_modules=targets,
        batch_size=4,
        sequence_length=48,
        completion_length=20,
        dtype=str(dtype).removeprefix("torch."),
    )
    forward_logits = planned.logits // 2  # the other half is their gradient, which comes after
    measured = kept_bytes(adapted, rows)
    assert measured == pytest.approx(planned.activations + forward_logits, rel=0.06)


@pytest.mark.parametrize("quantize", [None, "nf4"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_base_s_bytes_are_exact(tmp_path: Path, quantize: str | None, tied: bool) -> None:
    base = write_base(tmp_path / "base", hidden_size=128, head_dim=32, tie_word_embeddings=tied)
    loaded = load_model(TrainingBase.open(base), "cpu", quantize)
    dtype = str(loaded.dtype).removeprefix("torch.") if quantize is None else "float32"
    assert hub.plan(base, quantize=quantize, dtype=dtype).base == model_bytes(loaded)


def test_the_adapter_its_gradients_and_adamw_are_exact(tiny_base: Path) -> None:
    model = load_model(TrainingBase.open(tiny_base), "cpu", None)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=ALL_LINEARS, task_type="CAUSAL_LM"))
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights)
    completion_loss(adapted, [Row((1, 2, 3), 1)]).backward()
    optimizer.step()
    moments = [t for state in optimizer.state.values() for name, t in state.items() if name != "step"]
    planned = hub.plan(tiny_base, rank=4, target_modules=ALL_LINEARS)
    assert planned.trainable == sum(weight.numel() for weight in weights)
    assert planned.adapter == sum(weight.nbytes for weight in weights)
    assert planned.gradients == sum(weight.grad.nbytes for weight in weights if weight.grad is not None)
    assert planned.optimizer == sum(moment.nbytes for moment in moments)


def test_a_7b_model_trains_in_4_bits_where_it_does_not_in_16() -> None:
    """Trainable numbers as PEFT counts them for Llama-2-7B; NF4 with double quantization takes 4.127 bits a weight."""
    spec = BaseSpec.from_config(LLAMA_2_7B)
    dense = hub.plan(spec, batch_size=1, sequence_length=1024, dtype="bfloat16")
    packed = hub.plan(spec, batch_size=1, sequence_length=1024, dtype="bfloat16", quantize="nf4")
    assert dense.trainable == packed.trainable == 8_388_608
    assert dense.base == 2 * 6_738_415_616
    linears = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    bits = (packed.base - 4 * (6_738_415_616 - linears)) * 8 / linears
    assert bits == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=0.001)
    assert 3 * packed.base < dense.base


def test_the_plan_prints_as_a_table_that_adds_up(tiny_base: Path) -> None:
    planned = hub.plan(tiny_base, dtype="float32")
    parts = planned.parts()
    assert sum(size for name, size in parts.items() if name != "total") == parts["total"] == planned.total
    lines = str(planned).splitlines()
    assert lines[0] == f"{planned.trainable:,} of {planned.parameters:,} parameters are trained"
    assert [line.split()[0] for line in lines[1:]] == list(parts)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"target_modules": ["q_prj"]}, "no module q_prj; it has down_proj"),
        ({"quantize": "int3"}, "quantize is 'int3'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
    ],
)
def test_settings_that_can_t_be_planned_are_refused(tiny_base: Path, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        hub.plan(tiny_base, **settings)
    assert why in caught.value.message
