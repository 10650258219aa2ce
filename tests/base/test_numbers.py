"""Numbers of config.json that change the function are part of a base's identity; what changes nothing is not."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

from hub.base.numbers import config_numbers, differing
from hub.base.spec import BaseMatch, BaseSpec, compare_identity
from hub.fit.report import check_identity
from hub.manifest import BaseIdentity, Manifest
from tests.support.models import config_json, quiet, tiny_config, tiny_model

ARCHITECTURES = ["llama", "mistral", "qwen2", "gemma", "gpt2", "opt", "bloom", "phi"]


@pytest.fixture
def folder(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def changed(folder, **values):
    """Return a copy of a base whose config.json says something else."""
    other = shutil.copytree(folder, folder.with_name("other"))
    path = other / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return other


OTHER_FUNCTIONS = {
    "rms_norm_eps": 0.01,
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
    "hidden_act": "gelu",
    "num_attention_heads": 8,
}


@pytest.mark.parametrize("name", OTHER_FUNCTIONS)
def test_a_number_that_changes_the_function_is_another_base(name, folder):
    recorded = BaseSpec.from_folder(folder).identity("tiny")
    other = BaseSpec.from_folder(changed(folder, **{name: OTHER_FUNCTIONS[name]}))
    assert compare_identity(recorded, other) is BaseMatch.OTHER_FUNCTION
    finding = check_identity(recorded, other, strict=True)
    assert finding.level == "error"
    assert (name if name != "rope_parameters" else "rope_theta is 500000.0 here") in finding.line()
    assert check_identity(recorded, other, strict=False).level == "warning"


SAME = {
    "dtype": "bfloat16",
    "transformers_version": "4.40.0",
    "use_cache": False,
    "attention_dropout": 0.3,
    "bos_token_id": 7,
    "_name_or_path": "elsewhere",
    "max_position_embeddings": 4096,
    "initializer_range": 0.5,
}


@pytest.mark.parametrize("name", SAME)
def test_what_changes_no_forward_pass_is_the_same_base(name, folder):
    recorded = BaseSpec.from_folder(folder).identity()
    other = BaseSpec.from_folder(changed(folder, **{name: SAME[name]}))
    assert compare_identity(recorded, other) is BaseMatch.SAME_WEIGHTS


def test_a_record_without_numbers_and_a_config_of_other_fields_are_compared_by_what_they_share(folder):
    spec = BaseSpec.from_folder(folder)
    old = BaseIdentity(shapes=spec.shapes, weights=spec.weights, sketch=spec.sketch)
    assert compare_identity(old, spec) is BaseMatch.SAME_WEIGHTS
    assert differing('{"a":1}', '{"b":2}') == []
    assert differing('{"a":1,"b":1}', '{"a":1.0,"b":2}') == ["b is 2 here, and was 1"]


def test_old_and_new_spellings_of_rotary_settings_are_one():
    old = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}}
    assert config_numbers(old) == config_numbers(new)
    stretched = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}
    assert '"max_position_embeddings":2048' in config_numbers(stretched)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_in_memory_has_the_numbers_of_its_folder(name, tmp_path):
    """transformers fills in defaults, and renames: that is no difference."""
    with quiet():
        tiny_model(name).save_pretrained(tmp_path)
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    stored = config_numbers(json.loads((tmp_path / "config.json").read_text()))
    assert stored is not None
    assert differing(stored, config_numbers(model.config.to_dict())) == []
    assert differing(config_numbers(config_json(tiny_config(name))), stored) == []


def test_a_manifest_keeps_them(folder):
    identity = BaseSpec.from_folder(folder).identity()
    manifest = Manifest((), {}, (), identity)
    assert Manifest.parse(manifest.canonical_bytes()).base == identity
    without = Manifest((), {}, (), BaseIdentity(shapes=identity.shapes))
    assert b"config" not in without.canonical_bytes().split(b'"base":')[1].split(b"}")[0]
