"""The second load of a 4-bit base: the same model, never a stale one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file

from hub.runtime import base as base_module
from hub.runtime import load, quantized_base
from tests.runtime import support
from tests.runtime.support import logits

pytestmark = pytest.mark.usefixtures("_kernel_off")  # transformers' own model is the oracle, to the last bit


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


def damage_copy(tmp_path: Path) -> Path:
    """Damage the one copy; return its folder."""
    (entry,) = entries(tmp_path)
    with (entry / "model.safetensors").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"damage")
    return entry


def test_a_copy_that_another_process_removes_while_it_is_read_is_made_again(mine, tmp_path, monkeypatch, quantized):
    expected = logits(open_nf4(mine))
    entry = damage_copy(tmp_path)
    sha256 = quantized_base._sha256

    def hash_what_vanishes(path):
        if path.parent == entry:
            shutil.rmtree(entry, ignore_errors=True)
        return sha256(path)

    monkeypatch.setattr(quantized_base, "_sha256", hash_what_vanishes)
    assert torch.equal(logits(open_nf4(mine)), expected)
    assert len(quantized) == 2


def test_a_copy_that_another_process_has_made_again_is_used(mine, tmp_path, monkeypatch, quantized):
    """Both found it damaged; the other one is quicker and stores a new copy before this one removes what it read."""
    expected = logits(open_nf4(mine))
    good = shutil.copytree(entries(tmp_path)[0], tmp_path / "good")
    entry = damage_copy(tmp_path)
    is_intact = quantized_base._is_intact
    found = []

    def be_late(folder, recorded):
        found.append(is_intact(folder, recorded))
        if good.exists():
            with FileLock(entry.with_suffix(".lock"), timeout=60):
                shutil.rmtree(entry)
                good.rename(entry)
        return found[-1]

    monkeypatch.setattr(quantized_base, "_is_intact", be_late)
    made_again = (good / "model.safetensors").stat().st_ino
    assert torch.equal(logits(open_nf4(mine)), expected)
    assert found[0] is False
    assert quantized == [mine], "once, before the damage"
    assert (entry / "model.safetensors").stat().st_ino == made_again


def test_a_damaged_copy_is_not_removed_while_another_process_writes_it(mine, tmp_path, monkeypatch, quantized):
    expected = logits(open_nf4(mine))
    entry = damage_copy(tmp_path)
    rmtree, could_be_writing = shutil.rmtree, []

    def watched(path, *args, **options):
        if path == entry:
            with suppress(Timeout), FileLock(entry.with_suffix(".lock"), timeout=0):
                could_be_writing.append(path)
        rmtree(path, *args, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    assert torch.equal(logits(open_nf4(mine)), expected)
    assert could_be_writing == []
    assert len(quantized) == 2


@pytest.mark.parametrize("is_busy", [False, True])
def test_what_a_killed_process_left_half_written_goes_after_a_day(is_busy, mine, tmp_path):
    open_nf4(mine)
    (entry,) = entries(tmp_path)
    old, young = entry.parent / ".new-old", entry.parent / ".new-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
    yesterday = time.time() - 86_460
    os.utime(old, (yesterday, yesterday))
    with FileLock(entry.with_suffix(".lock")) if is_busy else nullcontext():
        open_nf4(mine)  # which waits for nobody who writes
    assert old.exists() == is_busy
    assert young.exists()


def test_a_disk_that_fails_while_the_copy_is_written_costs_the_copy_not_the_load(mine, tmp_path, monkeypatch, caplog):
    write = quantized_base.write_model

    def write_nowhere(model, state, folder, **options):
        def save(tensors, path, *args, **kwargs):
            save_file(tensors, folder / "gone" / "model.safetensors")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("huggingface_hub.save_torch_state_dict", save)
            write(model, state, folder, **options)

    monkeypatch.setattr(quantized_base, "write_model", write_nowhere)
    with caplog.at_level(logging.WARNING, logger="hub.runtime"):
        model = open_nf4(mine)
    assert "could not be kept" in caplog.text
    assert torch.equal(logits(model), logits(support.open_base(mine, "nf4")))
    assert not list((tmp_path / "cache" / "quantized").glob(".new-*"))


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
