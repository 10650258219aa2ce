"""The verdict from headers is the one that PEFT comes to by loading: every tensor has its place, or not."""

from __future__ import annotations

import pytest
from peft import PeftConfig, PeftModel

from hub.adapter.files import build_manifest
from hub.base.spec import BaseSpec
from hub.fit.report import check
from tests.support.models import config_json, quiet, tiny_config, tiny_model
from tests.support.peft_folders import VARIANTS, train

BASES = ["llama", "llama-biased", "llama-tied", "llama-wide", "qwen2", "gpt2", "gpt2-wide", "bloom"]
OF_THE_ADAPTER = ("lora_", "modules_to_save", "trainable_tokens_delta")


def peft_loads_every_tensor(folder, base):
    """Whether PEFT can load the adapter on `base` with nothing missing and nothing left over."""
    with quiet():
        try:
            model = PeftModel(tiny_model(base), PeftConfig.from_pretrained(folder))
            result = model.load_adapter(folder, "default")
        except (ValueError, RuntimeError, KeyError):  # no such module, another shape, a missing tensor
            return False
    return not result.unexpected_keys and not any(mark in key for key in result.missing_keys for mark in OF_THE_ADAPTER)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_adapter_fits_a_base_if_peft_loads_every_tensor_of_it_there(variant, tmp_path):
    train(variant, tmp_path)
    manifest = build_manifest(tmp_path)
    ours = {base: check(manifest, BaseSpec.from_config(config_json(tiny_config(base)))).ok for base in BASES}
    assert ours == {base: peft_loads_every_tensor(tmp_path, base) for base in BASES}
    assert False in ours.values(), "bloom or llama: no adapter fits both"
