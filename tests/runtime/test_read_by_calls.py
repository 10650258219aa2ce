"""What an adapter changes is what the base reads: tied embeddings, parameters without a call, modules put in later."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
import transformers

from hub.errors import Conflict, Unsupported
from hub.runtime import load
from tests.runtime import support
from tests.runtime.support import TOKENS, load_model, logits, relative_error, write_adapter

ENCODER = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SEQUENCES = {
    "vocab_size": 96, "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": 64,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "scale_embedding": True,
}  # fmt: skip
MODELS = {
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=96, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4)
    ),
    "bart": lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**SEQUENCES)),
    "m2m100": lambda: transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**SEQUENCES)),
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER, num_attention_heads=4)),
    "mamba": lambda: transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=96, hidden_size=64, num_hidden_layers=2, state_size=8)
    ),
    "deberta": lambda: transformers.DebertaV2ForMaskedLM(
        transformers.DebertaV2Config(
            **ENCODER, num_attention_heads=4, relative_attention=True, pos_att_type=["p2c", "c2p"],
            position_buckets=16, max_relative_positions=32, norm_rel_ebd="layer_norm", share_att_key=True,
        )
    ),
}  # fmt: skip


def make(kind):
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and not name.endswith("A_log"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif parameter.ndim == 2:
                parameter.mul_(3)
    return model


def answer(model, kind):
    inputs = {"input_ids": TOKENS}
    if kind in ("t5", "bart", "m2m100"):
        inputs["decoder_input_ids"] = TOKENS.flip(1)
    with torch.no_grad():
        return model(**inputs).logits


def peft_folder(base, folder, **config):
    model = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(r=2, **config))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.peft_config["default"].auto_mapping = None
    model.save_pretrained(folder)
    return folder


TOKEN_TARGETS = {"t5": ["q"], "bart": ["q_proj"], "m2m100": ["q_proj"], "bert": ["query"], "deberta": ["query_proj"]}


@pytest.mark.parametrize("kind", TOKEN_TARGETS)
def test_trained_tokens_reach_every_module_that_shares_the_embedding(kind, tmp_path):
    base = make(kind)
    folder = peft_folder(base, tmp_path / "a", trainable_token_indices=[3, 88, 42], target_modules=TOKEN_TARGETS[kind])
    expected = answer(peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).eval(), kind)
    model = load(copy.deepcopy(base), folder)
    found = answer(model, kind)
    assert relative_error(found, expected) <= 1e-5
    assert relative_error(answer(base, kind), expected) > 0.1
    model.merge()
    assert relative_error(answer(model, kind), expected) <= 1e-4
    model.unmerge()
    assert torch.equal(answer(model, kind), found)


UNREAD = {
    "a trained bias of Mamba's step": ("mamba", {"target_modules": ["dt_proj"], "bias": "lora_only"}),
    "Mamba's convolution, whole": ("mamba", {"target_modules": ["in_proj"], "modules_to_save": ["conv1d"]}),
    "DeBERTa's relative embeddings": (
        "deberta",
        {"target_modules": ["query_proj"], "modules_to_save": ["rel_embeddings"]},
    ),
}


@pytest.mark.parametrize("case", UNREAD)
def test_a_parameter_that_is_read_without_a_call_is_refused(case, tmp_path):
    kind, config = UNREAD[case]
    base = make(kind)
    folder = peft_folder(base, tmp_path / "a", **config)
    expected = answer(peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).eval(), kind)
    assert relative_error(answer(base, kind), expected) > 0.01
    model = load(base)
    before = answer(model, kind)
    with pytest.raises(Unsupported, match=r"doesn't read them by calling those modules \(a probe is .* off\)"):
        model.add(folder)
    assert model.adapters == ()
    assert torch.equal(answer(model, kind), before)


@pytest.mark.parametrize("kind", ["bert", "deberta", "bart", "t5"])
def test_parameters_that_are_read_by_calls_are_peft_s(kind, tmp_path):
    base = make(kind)
    folder = peft_folder(base, tmp_path / "a", target_modules=TOKEN_TARGETS[kind], bias="all")
    expected = answer(peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).eval(), kind)
    assert relative_error(answer(load(base, folder), kind), expected) <= 1e-5


def test_a_head_that_was_resized_after_load_takes_adapters_that_fit_it(base, tmp_path):
    """resize_token_embeddings puts a new head in the place of the one that hub.load saw."""
    bigger = support.open_base(base)
    bigger.resize_token_embeddings(104, mean_resizing=False)
    bigger.save_pretrained(tmp_path / "bigger")
    folder = write_adapter(tmp_path / "bigger", tmp_path / "a", r=2, target_modules=["q_proj", "lm_head"])
    model = load_model(base)
    model.resize_token_embeddings(104, mean_resizing=False)
    state = support.open_base(tmp_path / "bigger").state_dict()
    model.base.load_state_dict(state)
    model.add(folder)
    model.use(folder)
    assert relative_error(logits(model), support.peft_logits(tmp_path / "bigger", folder)) <= 1e-5


def test_a_head_that_is_adapted_and_then_replaced_is_noticed(base, tmp_path):
    head = write_adapter(base, tmp_path / "head", r=2, target_modules=["q_proj", "lm_head"])
    body = write_adapter(base, tmp_path / "body", r=2, target_modules=["q_proj"])
    model = load_model(base, body, head)
    model.base.resize_token_embeddings(104, mean_resizing=False)
    logits(model)  # with the adapter of the body alone, which is there as before
    with pytest.raises(Conflict, match=r"in the place of lm_head.*Resize the model first"):
        logits(model, adapters=head)
    with pytest.raises(Conflict, match="in the place of lm_head"), model.using(head):
        pass
