"""Files made to break a reader, pushed over the API: a typed refusal, quickly, in little memory, and nothing kept."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from hub.adapter.files import build_manifest
from hub.manifest import canonical_json
from tests.support.adapters import write_adapter
from tests.web.api import Api

MIB = 1024 * 1024


@pytest.fixture
def task(shared: Api) -> Api:
    return shared


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(start: int = 0, end: int = 4, shape: str = "[1]", dtype: str = "F32") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}'


ONE = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
WEIGHTS = {
    "empty": b"",
    "too short for a length": b"\x01\x00",
    "a header longer than the file": safetensors(b"{}", length=1 << 40),
    "a header length of 2**64-1": b"\xff" * 8 + b"{}",
    "a pickle": pickle.dumps({"a": 1}),
    "a zip archive": b"PK\x03\x04" + b"\0" * 100,
    "a header that is no JSON": safetensors(b"not json at all"),
    "white space before the header": safetensors(b"   {}"),
    "a header of another type": safetensors(b"[1,2,3]"),
    "duplicate names": safetensors(f'{{"{ONE}":{tensor()},"{ONE}":{tensor()}}}'.encode(), b"\0" * 4),
    "overlapping tensors": safetensors(f'{{"a":{tensor()},"b":{tensor()}}}'.encode(), b"\0" * 4),
    "a hole": safetensors(f'{{"a":{tensor(4, 8)}}}'.encode(), b"\0" * 8),
    "bytes past the end": safetensors(f'{{"a":{tensor(0, 400)}}}'.encode(), b"\0" * 4),
    "a shape that overflows": safetensors(f'{{"a":{tensor(0, 4, "[4611686018427387904,4]")}}}'.encode(), b"\0" * 4),
    "a negative shape": safetensors(f'{{"a":{tensor(0, 4, "[-1]")}}}'.encode(), b"\0" * 4),
    "an unknown dtype": safetensors(f'{{"a":{tensor(dtype="Q9")}}}'.encode(), b"\0" * 4),
    "an empty name": safetensors(f'{{"":{tensor()}}}'.encode(), b"\0" * 4),
    "a name with a NUL": safetensors(f'{{"a\\u0000b":{tensor()}}}'.encode(), b"\0" * 4),
    "a name that is a path": safetensors(f'{{"../../etc/passwd":{tensor()}}}'.encode(), b"\0" * 4),
    "deep nesting": safetensors(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "a number without end": safetensors(b'{"a":' + b"9" * 100_000 + b"}"),
    "a million tensors": safetensors(
        ("{" + ",".join(f'"t{n}":{tensor(0, 0, "[0]")}' for n in range(1_000_000)) + "}").encode()
    ),
}

CONFIGS: dict[str, bytes] = {
    "no JSON": b"{",
    "a list": b"[]",
    "deep nesting": b'{"r":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "code to import": json.dumps({"peft_type": "LORA", "r": 4, "auto_mapping": {"base_model_class": "X"}}).encode(),
    "another method": json.dumps({"peft_type": "PREFIX_TUNING", "r": 4}).encode(),
    "a rank of a billion": json.dumps(
        {"peft_type": "LORA", "r": 10**9, "lora_alpha": 8, "target_modules": ["q"]}
    ).encode(),
    "a pattern that never ends": json.dumps(
        {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": r"([\w.]+)+!"}
    ).encode(),
}


def push_bytes(api: Api, folder: Path, name: str, replaced: str, data: bytes) -> Any:
    """Send an adapter one of whose files is `data`, with a manifest that names exactly that."""
    manifest = build_manifest(folder).to_json()
    sha256 = hashlib.sha256(data).hexdigest()
    for entry in manifest["files"]:
        if entry["path"] == replaced:
            entry |= {"size": len(data), "sha256": sha256}
    contents = {entry["sha256"]: (folder / entry["path"]).read_bytes() for entry in manifest["files"]} | {sha256: data}
    asked = [{"sha256": entry["sha256"], "size": entry["size"]} for entry in manifest["files"]]
    for state in api.call("POST", f"/adapters/{name}/uploads", {"blobs": asked}, expect=200).json["blobs"]:
        if state["state"] == "upload":
            api.append(state["upload"], contents[state["sha256"]])
    return api.call("POST", f"/adapters/{name}/versions", body=canonical_json({"manifest": manifest}), headers=JSON)


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("data", WEIGHTS.values(), ids=WEIGHTS.keys())
def test_malformed_weights_are_a_typed_422_in_little_time_and_memory(task: Api, folder: Path, data: bytes) -> None:
    answer = bounded(lambda: push_bytes(task, folder, "task/bad", "adapter_model.safetensors", data), len(data))
    assert answer.status == 422, answer.body[:300]
    assert answer.code in {"invalid_safetensors", "invalid_adapter", "unsafe_file", "invalid_manifest"}
    assert task.call("GET", "/adapters/task/bad/versions/latest").status == 404


@pytest.mark.parametrize("data", CONFIGS.values(), ids=CONFIGS.keys())
def test_malformed_configs_are_typed_errors(task: Api, folder: Path, data: bytes) -> None:
    answer = bounded(lambda: push_bytes(task, folder, "task/bad", "adapter_config.json", data), len(data))
    assert answer.status in {409, 422}, answer.body[:300]
    assert task.call("GET", "/adapters/task/bad/versions/latest").status == 404


BOMB = "a{0}: &a{0} [*a{1},*a{1},*a{1},*a{1},*a{1},*a{1},*a{1},*a{1},*a{1}]\n"
CARDS = {
    "an alias bomb": "---\n"
    + "a0: &a0 [x]\n"
    + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 9))
    + "---\n",
    "no YAML": "---\n: : : [\n---\n",
    "python objects": "---\ntags: !!python/object/apply:os.system ['true']\n---\n",
    "endless front matter": "---\n" + "a: b\n" * 200_000,
    "deep nesting": "---\ntags: " + "[" * 20_000 + "\n---\n",
    "a million tags": "---\ntags: [" + "x," * 300_000 + "]\n---\n",
}


@pytest.mark.parametrize("kind", CARDS)
def test_a_hostile_card_is_only_a_card(task: Api, tmp_path: Path, kind: str) -> None:
    """It says nothing that can be read; the adapter beside it is as good as ever, and its page can be shown."""
    text, name = CARDS[kind], "task/" + kind.replace(" ", "-").lower()
    folder = write_adapter(tmp_path / "card", readme=text)
    answer = bounded(lambda: task.push(folder, name), len(text))
    assert answer["ref"] == f"{name}@v1"
    page = task.sender.send("GET", f"/{name}", {"Accept": "text/html"}, None)
    assert page.status == 200


def bounded(action: Any, sent_bytes: int) -> Any:
    """Do it within a second of processor time and 100 MiB of memory, beside what sending the bytes takes."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    answer = action()
    spent = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 100 * MIB + 4 * sent_bytes
    assert spent < 2 + 4 * sent_bytes / (50 * MIB)
    return answer


UNSAFE = ("../x.json", "/etc/passwd", "a\\b", "a\0b", ".git/config", "CON", "a/../b", "x" * 201, "training_args.bin")


def test_unsafe_names_are_refused_before_anything_is_stored(task: Api, folder: Path) -> None:
    manifest = build_manifest(folder).to_json()
    for path in (
        "../x.json",
        "/etc/passwd",
        "a\\b",
        "a\0b",
        ".git/config",
        "CON",
        "a/../b",
        "x" * 201,
        "training_args.bin",
    ):
        changed = manifest | {"files": [*manifest["files"], {"path": path, "size": 1, "sha256": "0" * 64}]}
        answer = task.call("POST", "/adapters/task/bad/versions", {"manifest": changed})
        assert answer.status == 422, path
        assert answer.code in {"unsafe_file", "invalid_manifest", "invalid_adapter"}, path
    assert task.call("GET", "/adapters/task/bad/versions/latest").status == 404


def test_twins_on_other_file_systems_are_refused(task: Api, folder: Path) -> None:
    manifest = build_manifest(folder).to_json()
    for twin in ("README.MD", "readme.md"):
        entry = {"path": twin, "size": 1, "sha256": "0" * 64}
        answer = task.call(
            "POST", "/adapters/task/bad/versions", {"manifest": manifest | {"files": [*manifest["files"], entry]}}
        )
        assert (answer.status, answer.code) == (422, "unsafe_file")
