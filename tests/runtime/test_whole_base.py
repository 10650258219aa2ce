"""A base that isn't whole runs on random numbers: `check` and `load` refuse it, and no copy of it is kept."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import hub
from hub.base.spec import BaseSpec
from hub.errors import Incompatible
from tests.runtime.support import load_model, write_adapter


def without(base, folder, *names):
    """Return a copy of a base that lacks tensors."""
    shutil.copytree(base, folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in names:
        del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


GAPS = {
    "no head": ["lm_head.weight"],
    "no up_proj": ["model.layers.1.mlp.up_proj.weight"],
    "no norm": ["model.norm.weight"],
}


@pytest.mark.parametrize("quantize", [None, "nf4"])
@pytest.mark.parametrize("gap", GAPS)
def test_a_gap_is_refused_by_load_and_by_check(gap, quantize, base, tmp_path):
    adapter = write_adapter(base, tmp_path / "a", r=2, target_modules=["q_proj"])
    broken = without(base, tmp_path / "base", *GAPS[gap])
    with pytest.raises(Incompatible, match=GAPS[gap][0]):
        load_model(broken, quantize=quantize)
    report = hub.check(broken, adapter)
    assert not report.ok
    assert report.find("whole").which == tuple(GAPS[gap])


def test_no_4_bit_copy_of_a_gap_is_kept(base, tmp_path, monkeypatch):
    monkeypatch.setenv("LORAHUB_CACHE", str(tmp_path / "cache"))
    broken = without(base, tmp_path / "base", "lm_head.weight")
    for _ in range(2):
        with pytest.raises(Incompatible, match=r"lm_head\.weight"):
            load_model(broken, quantize="nf4")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_folder_of_another_head_is_refused(tmp_path, bases):
    """A causal model's config over a classifier's weights: its output head would be random."""
    config = transformers.AutoConfig.from_pretrained(bases("llama"), num_labels=3)
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(Incompatible, match=r"lm_head\.weight"), warnings.catch_warnings(record=True):
        load_model(tmp_path / "base")
    assert BaseSpec.from_folder(tmp_path / "base").missing == ("lm_head.weight",)


def test_a_gap_of_an_architecture_without_a_table_is_refused_too(tmp_path):
    config = transformers.T5Config(vocab_size=96, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "whole")
    load_model(tmp_path / "whole")
    name = "decoder.block.1.layer.2.DenseReluDense.wo.weight"
    with pytest.raises(Incompatible, match=name):
        load_model(without(tmp_path / "whole", tmp_path / "base", name))


def test_tensors_without_a_place_are_named(base, tmp_path):
    """A config of fewer layers than the files have is another model's."""
    shutil.copytree(base, tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    with pytest.warns(UserWarning, match=r"9 tensors have no place.*model\.layers\.1"):
        model = load_model(tmp_path / "base")
    assert len(model.base.model.layers) == 1


@pytest.mark.parametrize("kind", ["llama", "tied-llama", "gpt2", "opt", "bloom", "phi", "gemma3"])
def test_a_whole_base_is_taken_without_a_word(kind, bases):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(no place|no weights).*")
        model = load_model(bases(kind), quantize="nf4")
    assert BaseSpec.from_folder(bases(kind)).missing == ()
    assert all(torch.isfinite(value).all() for value in model.base.parameters())
