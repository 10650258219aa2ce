"""Architectures and task heads, each loaded by the class that it was saved from: what PEFT says, dense and 4-bit."""

from __future__ import annotations

import shutil
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import hub
from hub.errors import Incompatible, Unsupported
from tests.battery.bases import BASES, BaseKind
from tests.battery.oracle import wrap
from tests.runtime.support import load_model, never_packs, relative_error

NAMES = sorted(set(BASES) - {"deepseek_v3"})
"""PEFT itself adapts the experts of that one as bare parameters, which is refused."""
NF4 = transformers.BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return base and adapter of an architecture, written once."""
    root, made = tmp_path_factory.mktemp("architectures"), {}

    def folder(name: str):
        if name not in made:
            kind = BASES[name]
            base = kind.write(root / name)
            config = peft.LoraConfig(
                r=4, target_modules=list(kind.targets), task_type=kind.task, init_lora_weights=False
            )
            peft.get_peft_model(kind.open(base), config).save_pretrained(root / f"{name}-adapter")
            made[name] = (base, root / f"{name}-adapter")
        return made[name]

    return folder


def answer(model: Any, kind: BaseKind) -> torch.Tensor:
    with torch.no_grad():
        out = model(**kind.inputs())
    return next(value for value in out.values() if isinstance(value, torch.Tensor) and value.is_floating_point())


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_says_what_peft_says_and_merges_to_a_folder(name, folders, tmp_path):
    kind, (base, adapter) = BASES[name], folders(name)
    model = load_model(base, adapter)
    found = answer(model, kind)
    assert type(model.base).__name__ == kind.model
    assert relative_error(found, answer(peft.PeftModel.from_pretrained(kind.open(base), adapter).eval(), kind)) < 1e-5
    report = model.merge()
    merged = answer(model, kind)
    assert relative_error(merged, found) < 1e-5
    assert not report.logit_kl > 1e-6, "or there are no logits"
    assert torch.equal(answer(kind.open(model.save_merged(tmp_path / "merged")), kind), merged)
    model.unmerge()
    assert torch.equal(answer(model, kind), found)


@pytest.mark.parametrize("name", ["bert-classifier", "t5", "whisper", "vit", "wav2vec2", "clip", "llava", "qwen2_5_vl"])
def test_other_heads_on_a_4_bit_base_say_what_peft_says(name, folders, tmp_path):
    """From the folder, and from the 4-bit copy that the first load has left."""
    kind, (base, adapter) = BASES[name], folders(name)
    quantized = transformers.BitsAndBytesConfig(**NF4.to_dict())
    if kind.model.endswith("Classification"):
        quantized.llm_int8_skip_modules = ["classifier"]  # without this PEFT can't train, or load, a whole head
    oracle = never_packs(kind.open(base, quantization_config=quantized, dtype=torch.float32))
    expected = answer(peft.PeftModel.from_pretrained(oracle, adapter).eval(), kind)
    for _ in range(2):
        model = load_model(base, adapter, quantize="nf4")
        assert relative_error(answer(model, kind), expected) < 1e-5
    model.merge()
    merged = answer(model, kind)
    assert torch.equal(answer(kind.open(model.save_merged(tmp_path / "merged"), dtype=torch.float32), kind), merged)


CONVOLUTIONS = {"vit": "projection", "clip": "patch_embedding", "qwen2_5_vl": "proj", "wav2vec2": r".*layers\.\d\.conv"}
"""Of two dimensions, of two, of three, and of one."""


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_say_what_peft_says_and_merge_to_a_folder(name, folders, tmp_path):
    kind, (base, _) = BASES[name], folders(name)
    target = CONVOLUTIONS[name]
    config = peft.LoraConfig(
        r=4, lora_alpha=5, target_modules=target if "*" in target else [target], init_lora_weights=False
    )
    peft.get_peft_model(kind.open(base), config).save_pretrained(tmp_path / "adapter")
    assert hub.check(base, tmp_path / "adapter").ok
    expected = answer(peft.PeftModel.from_pretrained(kind.open(base), tmp_path / "adapter").eval(), kind)
    model = load_model(base, tmp_path / "adapter")
    assert relative_error(answer(model, kind), expected) < 1e-5
    model.merge()
    merged = answer(model, kind)
    assert relative_error(merged, expected) < 1e-5
    assert torch.equal(answer(kind.open(model.save_merged(tmp_path / "merged")), kind), merged)


def test_a_convolution_in_groups_says_what_peft_says_and_isn_t_merged(folders, tmp_path):
    kind, (base, _) = BASES["wav2vec2"], folders("wav2vec2")
    config = peft.LoraConfig(r=4, target_modules=["conv"], init_lora_weights=False)
    peft.get_peft_model(kind.open(base), config).save_pretrained(tmp_path / "adapter")
    assert hub.check(base, tmp_path / "adapter").ok
    expected = answer(peft.PeftModel.from_pretrained(kind.open(base), tmp_path / "adapter").eval(), kind)
    model = load_model(base, tmp_path / "adapter")
    assert relative_error(answer(model, kind), expected) < 1e-5
    with pytest.raises(Unsupported, match="pos_conv_embed"):
        model.merge()
    assert relative_error(answer(model, kind), expected) < 1e-5


def test_names_of_an_older_version_of_an_architecture_are_those_of_today(folders, tmp_path):
    """LLaVA's language model was `language_model.model.…`; PEFT translates adapters by transformers' own renamings."""
    kind, (base, adapter) = BASES["llava"], folders("llava")
    shutil.copytree(adapter, tmp_path / "old")
    tensors = load_file(adapter / "adapter_model.safetensors")
    old = {name.replace(".model.language_model.", ".language_model.model."): v for name, v in tensors.items()}
    old = {name.replace(".model.vision_tower.", ".vision_tower.vision_model."): v for name, v in old.items()}
    assert not old.keys() & tensors.keys()
    save_file(old, tmp_path / "old" / "adapter_model.safetensors")
    expected = answer(wrap(kind.open(base), tmp_path / "old"), kind)
    assert hub.check(base, tmp_path / "old").ok
    assert relative_error(answer(load_model(base, tmp_path / "old"), kind), expected) < 1e-5
    assert not torch.equal(expected, answer(kind.open(base), kind))


def test_a_head_that_the_base_is_without_is_refused_by_check_and_load_alike(folders):
    base, (_, classifier) = folders("llama")[0], folders("llama-classifier")
    report = hub.check(base, classifier)
    assert [finding.code for finding in report.errors] == ["head"]
    with pytest.raises(Incompatible, match="AutoModelForSequenceClassification"):
        load_model(base, classifier)


def test_a_raw_state_dict_says_what_the_saved_adapter_says(folders, tmp_path):
    base, adapter = folders("llama")
    model = peft.PeftModel.from_pretrained(BASES["llama"].open(base), adapter)
    raw = {name: value for name, value in model.state_dict().items() if "lora_" in name}
    assert all(".default." in name for name in raw)
    save_file(raw, tmp_path / "adapter_model.safetensors")
    shutil.copy(adapter / "adapter_config.json", tmp_path)
    found, expected = (answer(load_model(base, folder), BASES["llama"]) for folder in (tmp_path, adapter))
    assert torch.equal(found, expected)


def test_a_model_without_logits_says_so_in_its_report(folders):
    base, adapter = folders("bert-body")
    report = load_model(base, adapter).merge()
    assert (report.probe_tokens, report.logit_kl) == (0, pytest.approx(float("nan"), nan_ok=True))
    assert "no logits" in str(report)
