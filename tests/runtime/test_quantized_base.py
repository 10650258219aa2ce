"""The second load of a 4-bit base: the same model, never a stale one."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub.runtime import base as base_module
from hub.runtime import load, quantized_base
from tests.runtime import support
from tests.runtime.support import logits


@pytest.fixture
def mine(bases, tmp_path, monkeypatch) -> Path:
    """A base of this test's own, and an empty cache."""
    monkeypatch.setenv("LORAHUB_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(bases("tied-llama"), tmp_path / "base"))


@pytest.fixture
def quantized(monkeypatch) -> list[Path]:
    """The folders that were quantized rather than read from the cache."""
    seen: list[Path] = []
    opened = base_module.open_model

    def watched(folder, *args, **options):
        if options:
            seen.append(folder)
        return opened(folder, *args, **options)

    monkeypatch.setattr(base_module, "open_model", watched)
    return seen


def open_nf4(folder: Path):
    return load(folder, device="cpu")


def entries(tmp_path: Path) -> list[Path]:
    return [path.parent for path in (tmp_path / "cache" / "quantized").glob("*/entry.json")]


def test_the_second_load_is_the_same_model_to_the_last_bit(mine, quantized):
    first, second = open_nf4(mine), open_nf4(mine)
    assert quantized == [mine]
    one, two = first.base.state_dict(), second.base.state_dict()
    assert list(one) == list(two)
    assert all(torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype for name in one)
    assert torch.equal(logits(first), logits(second))
    assert torch.equal(logits(second), logits(support.open_base(mine, "nf4")))
    assert second.base.name_or_path == first.base.name_or_path == str(mine)
    assert second.base.lm_head.weight is second.base.model.embed_tokens.weight


def test_a_changed_source_is_quantized_again_even_with_its_old_time(mine, quantized):
    before = logits(open_nf4(mine))
    weights = mine / "model.safetensors"
    stat = weights.stat()
    state = {name: value * 1.5 for name, value in load_file(weights).items()}
    save_file(state, weights, metadata={"format": "pt"})
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = logits(open_nf4(mine))
    assert quantized == [mine, mine]
    assert not torch.equal(after, before)
    assert torch.equal(after, logits(support.open_base(mine, "nf4")))


def test_a_changed_config_is_another_model(mine, quantized):
    open_nf4(mine)
    config = json.loads((mine / "config.json").read_text())
    (mine / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    open_nf4(mine)
    assert quantized == [mine, mine]


@pytest.mark.parametrize("damage", ["a flipped bit", "a cut file", "a file too many", "no entry"])
def test_a_damaged_copy_is_never_used(damage, mine, quantized, tmp_path, caplog):
    expected = logits(open_nf4(mine))
    (entry,) = entries(tmp_path)
    weights = entry / "model.safetensors"
    weights.chmod(0o600)
    data = bytearray(weights.read_bytes())
    if damage == "a flipped bit":
        data[-100] ^= 1
        weights.write_bytes(data)
    elif damage == "a cut file":
        weights.write_bytes(data[:-10])
    elif damage == "a file too many":
        (entry / "model-00002.safetensors").write_bytes(b"x")
    else:
        (entry / "entry.json").unlink()
    with caplog.at_level(logging.WARNING, logger="hub.runtime"):
        assert torch.equal(logits(open_nf4(mine)), expected)
    assert len(quantized) == 2
    assert damage == "no entry" or "is damaged and is made again" in caplog.text


def test_other_versions_of_the_quantizer_make_their_own_copy(mine, quantized, monkeypatch):
    open_nf4(mine)
    real = quantized_base.version
    monkeypatch.setattr(quantized_base, "version", lambda name: real(name) + ".post1")
    open_nf4(mine)
    assert len(quantized) == 2


def test_a_cache_that_can_t_be_written_costs_the_copy_not_the_load(mine, tmp_path, monkeypatch, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the cache's folder should be")
    monkeypatch.setenv("LORAHUB_CACHE", str(blocked))
    with caplog.at_level(logging.WARNING, logger="hub.runtime"):
        model = open_nf4(mine)
    assert "could not be kept" in caplog.text
    assert torch.equal(logits(model), logits(support.open_base(mine, "nf4")))


def test_an_interrupted_write_leaves_nothing_that_counts(mine, tmp_path, monkeypatch, quantized):
    class Interrupted(BaseException):
        pass

    def die(*args, **kwargs):
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(quantized_base, "_sync", die)
        with pytest.raises(Interrupted):
            open_nf4(mine)
    assert entries(tmp_path) == []
    assert not list((tmp_path / "cache" / "quantized").glob(".new-*"))
    open_nf4(mine)
    assert len(entries(tmp_path)) == 1


def test_a_base_whose_weights_are_pickles_is_not_read(mine):
    (mine / "model.safetensors").unlink()
    torch.save({}, mine / "pytorch_model.bin")
    from hub.errors import HubError

    with pytest.raises(HubError, match="safetensors"):
        open_nf4(mine)


def test_what_is_no_base_says_what_would_be(tmp_path):
    from hub.errors import BaseNotFound

    with pytest.raises(BaseNotFound, match=r"neither a model's folder nor a Hugging Face id"):
        load(tmp_path / "nowhere")
