"""A folder becomes an adapter: what is taken, what is left out, what is refused; the same code reads storage."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub.adapter.content import AdapterContent, check_content
from hub.adapter.file_rules import Verdict, check_magic, check_name, rule_for
from hub.adapter.files import build_manifest, inspect_adapter, scan_folder
from hub.errors import InvalidAdapter, InvalidSafetensors, UnsafeFile
from hub.formats.readable import LocalFile, hash_file
from hub.manifest import BaseIdentity, FileEntry, Manifest, TensorEntry
from tests.support.adapters import write_adapter
from tests.support.peft_folders import VARIANTS, train


class Stored:
    """A Readable that is no local file: what a registry's store gives."""

    def __init__(self, data):
        self.data = data

    @property
    def size(self):
        return len(self.data)

    def read(self, offset, size):
        return self.data[offset : offset + size]


def stored(folder):
    return {name: Stored(path.read_bytes()) for name, path in scan_folder(folder).files.items()}


@pytest.fixture
def folder(tmp_path):
    return write_adapter(tmp_path / "adapter", readme="# Card")


def edit_config(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_weights(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_peft_saves_is_one_whole_adapter(variant, tmp_path):
    train(variant, tmp_path)
    manifest = build_manifest(tmp_path)
    assert [entry.path for entry in manifest.files] == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.name: tensor.shape for tensor in manifest.tensors} == {k: tuple(w.shape) for k, w in weights.items()}


def test_a_folder_and_a_store_give_the_same_manifest(folder):
    base = BaseIdentity(id="acme/base", shapes="0" * 64)
    ours, theirs = build_manifest(folder, base), build_manifest(stored(folder), base)
    assert ours.canonical_bytes() == theirs.canonical_bytes()
    assert Manifest.parse(ours.canonical_bytes()).digest == ours.digest


def test_a_manifest_says_all_that_its_adapter_says(folder):
    content = inspect_adapter(scan_folder(folder).readables())
    again = AdapterContent.from_manifest(build_manifest(folder))
    assert again.tensors == content.tensors
    assert (again.config, again.parts) == (content.config, content.parts)
    assert content.dtype == "F32"
    assert content.target_names == ("q_proj", "v_proj")
    assert content.parameters == sum(w.numel() for w in load_file(folder / "adapter_model.safetensors").values())


def test_hashes_are_those_of_the_files_and_progress_counts_every_byte(folder):
    seen = []
    manifest = build_manifest(folder, progress=seen.append)
    for entry in manifest.files:
        data = (folder / entry.path).read_bytes()
        assert (entry.sha256, entry.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert sum(seen) == manifest.size_bytes


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 3 * 1024 * 1024 + 7])
def test_a_file_of_any_size_is_hashed_whole(tmp_path, size):
    path = tmp_path / "file"
    data = os.urandom(size)
    path.write_bytes(data)
    assert hash_file(path) == (hashlib.sha256(data).hexdigest(), size)


def test_files_with_a_known_hash_are_not_read_again(folder):
    entry = FileEntry("adapter_model.safetensors", 1, "a" * 64)
    assert build_manifest(folder, known={entry.path: entry}).file(entry.path) == entry


def test_the_base_is_the_one_given_and_else_the_configs(folder):
    edit_config(folder, base_model_name_or_path="acme/base", revision="main")
    assert build_manifest(folder).base == BaseIdentity("acme/base", "main")
    given = BaseIdentity(shapes="1" * 64, weights="2" * 64)
    assert build_manifest(folder, given).base == BaseIdentity("acme/base", "main", "1" * 64, "2" * 64)
    assert build_manifest(folder, BaseIdentity("other/name")).base.id == "other/name"


LEFT_OVERS = [
    "checkpoint-100/adapter_model.safetensors",
    "checkpoint-100/optimizer.pt",
    "runs/Nov24/events.out.tfevents.1",
    "__pycache__/train.cpython-311.pyc",
    ".git/config",
    ".cache/huggingface/x.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "training_args.bin",
    ".gitattributes",
    "train.log",
    "train.py",
    "model.safetensors",
    "sub/adapter_model.safetensors",
    "video.mp4",
]


@pytest.mark.parametrize("name", LEFT_OVERS)
def test_what_a_trainer_leaves_behind_is_left_out_with_the_reason(folder, name):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"whatever")
    scan = scan_folder(folder)
    assert name not in scan.files
    reasons = [reason for left, reason in scan.left_out if name == left or name.startswith(left)]
    assert len(reasons) == 1
    assert reasons[0]


@pytest.mark.parametrize(
    "name",
    ["README.md", "LICENSE", "LICENSE.txt", "NOTICE", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
     "special_tokens_map.json", "chat_template.jinja", "merges.txt", "vocab.json", "images/loss.png", "train.yaml"],
)  # fmt: skip
def test_what_belongs_to_an_adapter_is_taken(folder, name):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    assert name in scan_folder(folder).files


@pytest.mark.parametrize("name", ["adapter_model.bin", "x.pt", "x.pth", "x.pkl", "x.ckpt", "sub/x.npy", "X.BIN"])
def test_a_pickle_is_never_stored_under_its_own_name(folder, name):
    assert rule_for(name).verdict is Verdict.REFUSE
    with pytest.raises(UnsafeFile, match="safetensors"):
        check_name(name)
    with pytest.raises(UnsafeFile):
        inspect_adapter(stored(folder) | {name: Stored(b"")})


def test_weights_that_are_only_a_pickle_are_refused_with_the_conversion_step(folder):
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, folder / "adapter_model.bin")
    with pytest.raises(UnsafeFile, match=r"adapter_model\.bin only.*save_pretrained"):
        scan_folder(folder)


def test_a_pickle_beside_sound_weights_is_left_out(folder):
    torch.save({"a": torch.zeros(1)}, folder / "adapter_model.bin")
    assert "adapter_model.bin" in dict(scan_folder(folder).left_out)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer.json", "README.md", "vocab.txt"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_under_an_allowed_name_is_refused(folder, name, protocol):
    (folder / name).write_bytes(pickle.dumps({"a": [1, 2, 3]}, protocol=protocol))
    with pytest.raises(UnsafeFile, match="pickle"):
        scan_folder(folder)
    with pytest.raises(UnsafeFile, match="pickle"):
        inspect_adapter({path.name: LocalFile(path) for path in folder.iterdir()})


def test_a_zip_under_an_allowed_name_is_refused(folder):
    with zipfile.ZipFile(folder / "notes.txt", "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(UnsafeFile, match="zip"):
        scan_folder(folder)


@pytest.mark.parametrize("length", [0x0280, 0x0580, 0x5A4D])
def test_a_header_length_that_looks_like_a_magic_number_is_none(length):
    first_bytes = length.to_bytes(8, "little") + b"{"
    with pytest.raises(UnsafeFile):
        check_magic("notes.txt", first_bytes)
    check_magic("adapter_model.safetensors", first_bytes)


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder / "notes.txt").symlink_to(secret)
    with pytest.raises(UnsafeFile, match="link out of the folder"):
        scan_folder(folder)


def test_a_link_inside_the_folder_is_its_file(folder):
    (folder / "COPY.md").symlink_to(folder / "README.md")
    assert build_manifest(folder).file("COPY.md").sha256 == build_manifest(folder).file("README.md").sha256


def test_a_linked_folder_is_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.txt").write_text("x")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    scan = scan_folder(folder)
    assert "more" in dict(scan.left_out)
    assert not any(name.startswith("more") for name in scan.files)


def test_a_device_or_pipe_is_not_read(folder):
    os.mkfifo(folder / "pipe.txt")
    assert "pipe.txt" in dict(scan_folder(folder).left_out)


@pytest.mark.parametrize("names", [["A.txt", "a.txt"], ["\u00e9.txt", "e\u0301.txt"]])
def test_twins_are_refused(folder, names):
    for name in names:
        (folder / name).write_text(name)
    with pytest.raises(UnsafeFile, match="one file on some file systems"):
        scan_folder(folder)


@pytest.mark.parametrize("name", ["con.txt", "a:b.txt", "back\\slash.txt", "ends .", "x" * 201 + ".txt"])
def test_a_name_that_some_system_can_not_store_is_refused(folder, name):
    with pytest.raises(UnsafeFile):
        inspect_adapter(stored(folder) | {name: Stored(b"")})


def test_a_folder_without_config_is_no_adapter(folder):
    (folder / "adapter_config.json").unlink()
    with pytest.raises(InvalidAdapter, match=r"has no adapter_config\.json.*save_pretrained"):
        scan_folder(folder)


def test_a_folder_without_weights_is_no_adapter(folder):
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InvalidAdapter, match=r"has no adapter_model\.safetensors"):
        scan_folder(folder)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lora_unet_down_blocks_0.lora_down.weight", "kohya"),
        ("unet.a.lora_A.weight", "diffusers"),
        ("x", "should start"),
    ],
)
def test_a_folder_of_another_trainer_is_refused_by_what_it_holds(tmp_path, name, what):
    save_file({name: torch.ones(2, 2)}, tmp_path / "my_style.safetensors")
    with pytest.raises(InvalidAdapter, match=what):
        scan_folder(tmp_path)


def test_what_is_no_folder_is_no_adapter(folder):
    with pytest.raises(InvalidAdapter, match="not a folder"):
        scan_folder(folder / "adapter_config.json")
    with pytest.raises(InvalidAdapter, match="not a folder"):
        scan_folder(folder / "missing")


def test_truncated_weights_are_refused_by_name(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InvalidSafetensors, match=r"adapter_model\.safetensors: .*cut short"):
        build_manifest(folder)


def test_files_that_are_not_there_are_named(folder):
    files = stored(folder)
    del files["adapter_model.safetensors"]
    with pytest.raises(InvalidAdapter, match=r"no adapter_model\.safetensors"):
        inspect_adapter(files)


def test_an_oversized_config_is_not_even_read(folder):
    class Huge(Stored):
        size = 10**12

        def read(self, offset, size):
            assert size < 100
            return b"{"

    with pytest.raises(InvalidAdapter, match="allowed"):
        inspect_adapter(stored(folder) | {"adapter_config.json": Huge(b"")})


MODULE = "model.layers.0.self_attn.q_proj"
NAME = f"base_model.model.{MODULE}."
A, B = NAME + "lora_A.weight", NAME + "lora_B.weight"
EMBEDDING = "base_model.model.model.embed_tokens."


def same(weights):
    return weights


def adding(name, *shape, dtype=torch.float32):
    return lambda weights: weights | {name: torch.ones(*shape, dtype=dtype)}


def without(name):
    return lambda weights: {key: value for key, value in weights.items() if key != name}


CONTRADICTIONS = {
    "another rank": (same, {"r": 5}, f"{MODULE} has rank 4 in A and 4 in B, but the config says 5"),
    "a rank pattern": (same, {"rank_pattern": {"0.self_attn.q_proj": 2}}, "the config says 2"),
    "A and B of other ranks": (adding(A, 3, 32), {}, "rank 3 in A and 4 in B"),
    "a missing B": (without(B), {}, f"{MODULE} has no lora_B"),
    "a missing A": (without(A), {}, f"{MODULE} has no lora_A"),
    "a vector": (adding(A, 4), {}, "no product"),
    "an empty A": (adding(A, 4, 0), {}, "no product"),
    "whole numbers": (adding(A, 4, 32, dtype=torch.int8), {}, "dtype I8"),
    "no magnitudes": (same, {"use_dora": True}, "no DoRA magnitude"),
    "a magnitude": (adding(NAME + "lora_magnitude_vector", 32), {}, "use_dora is False"),
    "no biases of B": (same, {"lora_bias": True}, "no bias of B"),
    "a bias of B": (adding(NAME + "lora_B.bias", 32), {}, "lora_bias is False"),
    "a bias": (adding(NAME + "base_layer.bias", 32), {}, "bias is 'none'"),
    "no modules to save": (same, {"modules_to_save": ["score"]}, "names score, but there are no such weights"),
    "a module not to save": (adding("base_model.model.model.norm.weight", 32), {}, "model.norm is stored whole"),
    "no tokens": (same, {"trainable_token_indices": [1]}, "no trained tokens"),
    "tokens": (adding(EMBEDDING + "token_adapter.trainable_tokens_delta", 1, 32), {}, "does not name it"),
    "a base weight": (adding(EMBEDDING + "base_layer.weight", 9, 32), {}, "no update of it"),
    "nothing": (lambda weights: {}, {}, "there are no weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_config_and_weights_that_contradict_each_other_are_refused_by_module(folder, name):
    change, fields, message = CONTRADICTIONS[name]
    edit_weights(folder, change)
    edit_config(folder, **fields)
    with pytest.raises(InvalidAdapter) as caught:
        check_content(inspect_adapter(scan_folder(folder).readables()))
    assert message in caught.value.message
    with pytest.raises(InvalidAdapter):
        build_manifest(folder)


def test_many_contradictions_are_the_first_few_and_a_count(folder):
    edit_config(folder, r=5)
    with pytest.raises(InvalidAdapter, match="and 1 more") as caught:
        build_manifest(folder)
    assert len(caught.value.details["faults"]) == 4


def test_what_no_published_adapter_may_set_is_refused_with_the_next_step(folder):
    edit_config(folder, auto_mapping={"base_model_class": "X", "parent_library": "evil"})
    with pytest.raises(InvalidAdapter, match=r"auto_mapping.*set it to null"):
        build_manifest(folder)
    check_content(inspect_adapter(scan_folder(folder).readables()))


def test_resized_embeddings_that_peft_saves_along_are_taken(folder):
    edit_weights(folder, lambda w: w | {"base_model.model.lm_head.weight": torch.ones(9, 32)})
    content = inspect_adapter(scan_folder(folder).readables())
    check_content(content)
    assert TensorEntry("base_model.model.lm_head.weight", "F32", (9, 32)) in content.tensors
    assert build_manifest(folder).tensors == content.tensors


def test_another_safetensors_file_in_a_store_is_checked_but_is_no_part_of_the_adapter(folder):
    shutil.copy(folder / "adapter_model.safetensors", folder / "merged.safetensors")
    files = stored(folder)
    files["merged.safetensors"] = Stored((folder / "merged.safetensors").read_bytes())
    assert inspect_adapter(files).tensors == inspect_adapter(stored(folder)).tensors
    files["merged.safetensors"] = Stored(b"broken")
    with pytest.raises(InvalidSafetensors, match=r"merged\.safetensors"):
        inspect_adapter(files)
