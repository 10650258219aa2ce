"""`modules_to_save` means what PEFT makes of it: every module whose name ends so, behind a dot or not."""

from __future__ import annotations

import json

import pytest
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model

from hub.adapter.config import LoraConfig
from hub.adapter.files import build_manifest
from hub.adapter.keys import is_saved_module
from hub.base.spec import BaseSpec
from hub.fit.placement import targeted
from hub.fit.report import check
from tests.support.models import config_json, quiet, tiny_config, tiny_model
from tests.support.peft_folders import train


@pytest.mark.parametrize("saved", ["lm_head", "head", "norm", "layernorm", "tokens", "mlp", "self_attn", "1"])
def test_what_is_stored_whole_and_what_is_adapted_is_what_peft_does(saved):
    fields = {"target_modules": ["q_proj", "up_proj"], "modules_to_save": [saved]}
    with quiet():
        try:
            model = get_peft_model(tiny_model("llama"), PeftLoraConfig(**fields))
        except TypeError:
            model = None  # a module can't be both: what is in a saved one is never adapted by us either
    spec = BaseSpec.from_config(config_json(tiny_config("llama")))
    ours = set(targeted(LoraConfig.from_json({"peft_type": "LORA", **fields}), spec.modules))
    assert not {name for name in ours if is_saved_module(name, (saved,))}
    if model is not None:
        names = [name.removeprefix("base_model.model.") for name, _ in model.named_parameters()]
        assert ours == {name.partition(".lora_A.")[0] for name in names if ".lora_A." in name}
        homes = {name.partition(".modules_to_save.")[0] for name in names if ".modules_to_save." in name}
        known = {name.rpartition(".")[0] for name in spec.tensors}
        inside = {name for name in known if any(f"{name}.".startswith(f"{home}.") for home in homes)}
        assert {name for name in known if is_saved_module(name, (saved,))} == inside


def test_a_module_that_is_targeted_and_stored_whole_is_not_untrained(tmp_path):
    train("modules-to-save", tmp_path, modules_to_save=["lm_head"])
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["head"]}))
    spec = BaseSpec.from_config(config_json(tiny_config("llama")))
    report = check(build_manifest(tmp_path), spec)
    assert report.ok, [finding.line() for finding in report.findings]
