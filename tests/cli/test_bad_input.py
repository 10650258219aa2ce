"""Everything a new user gets wrong: a clear error, the documented exit code, and nothing half-stored."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import resource
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Machine
from tests.client.tiny_base import write_base
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, clean_env, running_server


def write_duplicate_names(path: Path) -> None:
    """A header that has one tensor name twice: JSON readers take the last, and hide the first."""
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    item = '"%s":{"dtype":"F32","shape":[4,32],"data_offsets":[%d,%d]}'
    header = ("{" + ",".join(item % (name, at, at + 512) for at in (0, 512)) + "}").encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(1024))


def without_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def as_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"weights": [1.0]}))


def pickle_in_disguise(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(pickle.dumps({"weights": [1.0]}))


def truncated(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def duplicate_names(folder: Path) -> None:
    write_duplicate_names(folder / "adapter_model.safetensors")


def other_rank(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 16}))


def broken_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", ')


def half_a_pair(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "adapter_model.safetensors"
    tensors = load_file(str(path))
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, str(path))


FOLDERS = {
    without_config: "save_pretrained",
    as_pickle: "Convert it to safetensors",
    pickle_in_disguise: "",
    truncated: "adapter_model.safetensors",
    duplicate_names: "adapter_model.safetensors",
    other_rank: "rank",
    broken_json: "adapter_config.json",
    half_a_pair: "lora_B",
}


@pytest.mark.parametrize("spoil", FOLDERS, ids=lambda function: function.__name__)
def test_a_bad_folder_is_exit_6_and_nothing_is_stored(spoil, machine: Machine, server: RunningServer, tmp_path: Path):
    folder = write_adapter(tmp_path / "adapter", seed=17)
    spoil(folder)
    blobs = stored_blobs(server)
    result = machine.run("push", str(folder), f"bad/{spoil.__name__.replace('_', '-')}")
    assert result.code == 6, result.err
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert FOLDERS[spoil] in result.err
    assert machine.run("show", f"bad/{spoil.__name__.replace('_', '-')}").code == 3
    assert stored_blobs(server) == blobs


def stored_blobs(server: RunningServer) -> set[str]:
    return {path.name for path in (server.data / "blobs").rglob("*") if path.is_file()}


def test_a_folder_that_is_not_there_is_named(machine, tmp_path):
    result = machine.run("push", str(tmp_path / "nowhere"), "bad/nowhere")
    assert result.code == 6
    assert "nowhere" in result.err


def test_leftovers_of_training_are_left_out_and_named(machine, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=18)
    (folder / "training_args.bin").write_bytes(pickle.dumps({"lr": 1}))
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "optimizer.pt").write_bytes(b"PK\x03\x04")
    result = machine.run("push", str(folder), "bad/leftovers", "--json")
    assert result.code == 0
    pushed = json.loads(result.out)
    assert {item["path"] for item in pushed["left_out"]} == {"training_args.bin", "checkpoint-10/"}
    assert "training_args.bin is left out" in result.err
    stored = json.loads(machine.ok("show", pushed["ref"], "--json"))["manifest"]["files"]
    assert {file["path"] for file in stored} == {"adapter_config.json", "adapter_model.safetensors"}


def test_an_adapter_for_another_model_is_exit_7_before_anything_is_sent(machine, server, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=19)
    other = write_base(tmp_path / "other", hidden_size=48, intermediate_size=96)
    blobs = stored_blobs(server)
    result = machine.run("push", str(folder), "bad/other-model", "--base", str(other))
    assert result.code == 7
    assert result.err.startswith("error: ")
    assert "q_proj" in result.err
    assert len(result.err.splitlines()) < 15
    assert machine.run("show", "bad/other-model").code == 3
    assert stored_blobs(server) == blobs


def test_check_says_why_an_adapter_does_not_fit(machine, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=20)
    right, other = write_base(tmp_path / "right"), write_base(tmp_path / "other", num_hidden_layers=1)
    machine.ok("push", str(folder), "bad/fits", "--base", str(right))
    assert "fits" in machine.ok("check", str(right), "bad/fits")
    result = machine.run("check", str(other), "bad/fits", "--json")
    assert result.code == 7
    assert json.loads(result.out)["ok"] is False


def test_the_same_shapes_with_other_weights_are_another_base(machine, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=21)
    right, twin = write_base(tmp_path / "right", seed=1), write_base(tmp_path / "twin", seed=2)
    machine.ok("push", str(folder), "bad/twin", "--base", str(right))
    assert machine.run("check", str(twin), "bad/twin").code == 7
    assert machine.run("check", str(right), "bad/twin").code == 0


def test_a_base_that_is_nowhere_is_exit_3_with_what_to_name(machine, tmp_path):
    result = machine.run("check", str(tmp_path / "no-model"), "bad/twin")
    assert result.code == 3
    assert "Name its folder" in result.err


def test_a_version_that_does_not_exist_is_exit_3_and_names_the_latest(machine, tmp_path):
    machine.ok("push", str(write_adapter(tmp_path / "adapter", seed=22)), "bad/missing")
    for command in ("pull", "show", "verify"):
        result = machine.run(command, "bad/missing@v9")
        assert result.code == 3
        assert "v9" in result.err
        assert "v1" in result.err
        assert "lorahub show bad/missing" in result.err
    assert machine.run("pull", "bad/nothing").code == 3


@pytest.mark.parametrize("ref", ["Bad/Name", "a", "a/b/c", "a/b@", "a/b@..", "a/b@sha256:12", "a--b/c", "a/b@x y", ""])
def test_a_ref_with_bad_characters_is_exit_2_and_asks_nobody(ref, lonely):
    result = lonely.run("pull", ref)
    assert result.code == 2
    assert result.err.startswith("error: ")


def test_a_wrong_token_is_exit_4_and_is_never_shown(machine, tmp_path, server):
    folder = write_adapter(tmp_path / "adapter", seed=23)
    blobs = stored_blobs(server)
    result = machine.run("push", str(folder), "bad/token", LORAHUB_TOKEN="lhub_wrong-canary")
    assert result.code == 4
    assert "lorahub login" in result.err
    assert "canary" not in result.err + result.out
    assert stored_blobs(server) == blobs


def test_a_wrong_token_is_not_stored_by_login(machine, monkeypatch, server):
    monkeypatch.setattr("sys.stdin", open_text("lhub_wrong-canary\n"))
    machine.env.pop("LORAHUB_TOKEN")
    result = machine.run("login", server.url)
    assert result.code == 4
    assert not Path(machine.env["LORAHUB_CONFIG"]).exists()


def open_text(text: str):
    import io

    return io.StringIO(text)


# --- disks that are full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_at_the_server_is_said_and_nothing_is_published(small_disk, tmp_path, monkeypatch):
    """3.2 MB of weights into a store of 2 MB; a smaller adapter still goes in afterwards."""
    with running_server(tmp_path / "server", "--store", str(small_disk)) as full:
        machine = Machine(tmp_path, clean_env(tmp_path / "me"), monkeypatch)
        machine.env |= {"LORAHUB_ENDPOINT": full.url, "LORAHUB_TOKEN": full.token}
        large = write_adapter(tmp_path / "large", rank=64, hidden=1024, layers=3)
        result = machine.run("push", str(large), "task/large")
        assert result.code == 1
        assert re.search("space|full", result.err)
        assert "Traceback" not in result.err
        assert machine.run("show", "task/large").code == 3
        assert machine.ok("push", str(write_adapter(tmp_path / "small-one")), "task/small") == "task/small@v1\n"


def test_a_full_disk_while_pulling_is_said_and_the_next_pull_succeeds(small_disk, machine, tmp_path):
    large = write_adapter(tmp_path / "large", rank=64, hidden=1024, layers=3, seed=24)
    machine.ok("push", str(large), "bad/large")
    result = machine.run("pull", "bad/large", LORAHUB_CACHE=str(small_disk / "cache"))
    assert result.code == 1
    assert "LORAHUB_CACHE" in result.err
    assert same_files(large, Path(machine.ok("pull", "bad/large").strip()))


def test_a_disk_that_fills_up_in_the_middle_keeps_what_came(machine, tmp_path):
    """A file size limit stops the writing in the middle, as a disk that fills up does."""
    large = write_adapter(tmp_path / "large", rank=64, hidden=1024, layers=3, seed=25)
    machine.ok("push", str(large), "bad/filling")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        result = machine.run("pull", "bad/filling")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.code == 1
    assert "No space is left" in result.err
    weights = hashlib.sha256((large / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert (machine.cache / "partial" / weights).stat().st_size == 1_000_000
    assert same_files(large, Path(machine.ok("pull", "bad/filling").strip()))


def same_files(a: Path, b: Path) -> bool:
    names = {path.name for path in a.iterdir()}
    return names == {path.name for path in b.iterdir()} - {".lorahub"} and all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in names
    )


def test_pull_to_does_not_touch_a_folder_that_has_something_in_it(machine, tmp_path):
    machine.ok("push", str(write_adapter(tmp_path / "adapter", seed=26)), "bad/to")
    target = tmp_path / "target"
    assert machine.ok("pull", "bad/to", "--to", str(target)).strip() == str(target)
    assert same_files(tmp_path / "adapter", target)
    shutil.rmtree(target)
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    assert machine.run("pull", "bad/to", "--to", str(target)).code == 2
    assert [path.name for path in target.iterdir()] == ["mine.txt"]
