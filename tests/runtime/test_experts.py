"""A mixture of experts whose experts are linear layers of their own."""

from __future__ import annotations

import peft
import pytest
import torch
import transformers

from hub.errors import Unsupported
from hub.runtime import load
from tests.runtime.support import relative_error

IDS = torch.tensor([[5, 17, 3, 88, 42], [9, 1, 30, 12, 95]])
START = torch.tensor([[0, 7], [0, 9]])


def make() -> transformers.SwitchTransformersForConditionalGeneration:
    torch.manual_seed(0)
    config = transformers.SwitchTransformersConfig(
        vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4, num_experts=3,
        num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, expert_capacity=8, decoder_start_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.SwitchTransformersForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    model = peft.get_peft_model(make(), peft.LoraConfig(r=3, target_modules=["q", "v", "wi", "wo"]))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.copy_(torch.randn_like(value) * 0.3)
    folder = tmp_path_factory.mktemp("moe")
    model.save_pretrained(folder)
    import json

    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"auto_mapping": None}))
    return folder


@torch.no_grad()
def said(model, **options) -> torch.Tensor:
    return model(input_ids=IDS, decoder_input_ids=START, **options).logits


def test_experts_are_adapted_as_peft_does(adapter):
    expected = said(peft.PeftModel.from_pretrained(make(), adapter).eval())
    model = load(make(), adapter)
    assert any(".experts." in model._attachment.names[index] for index in model._selection.shared.updates)
    assert relative_error(said(model), expected) <= 1e-5
    model.use(None)
    assert torch.equal(said(model), said(make()))


def test_rows_can_t_be_told_apart_inside_experts(adapter):
    model = load(make(), adapter)
    with pytest.raises(Unsupported, match="is an expert, which sees tokens without their rows"):
        said(model, adapters=[adapter, None])
    assert said(model, adapters=[adapter, adapter]).shape == (2, 2, 96), "one adapter for all rows is no mixture"
