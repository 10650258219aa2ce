"""One real server for all tests of the Hugging Face wire, and folders to send to it."""

from __future__ import annotations

import json
import random
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hf.large_adapter import large_adapter
from tests.support.adapters import random_tensor, write_adapter, write_safetensors
from tests.support.server import RunningServer, clean_env, running_server

CARD = "---\nlicense: apache-2.0\ntags: [questions]\n---\n# An adapter\n"
BASE = "tests/tiny-llama"


@dataclass(frozen=True)
class Wire:
    """A running server and what the tests need to know of it."""

    server: RunningServer
    reader_token: str

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def token(self) -> str:
        return self.server.token

    def native(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call lorahub's own API as the admin."""
        return native(self.url, self.token, method, path, body)

    def namespace(self, name: str) -> str:
        self.native("POST", "/namespaces", {"name": name})
        return name

    def client_env(self, folder: Path) -> dict[str, str]:
        """Return the environment of a stock client: the endpoint, the token, and a cache of its own."""
        return clean_env(folder) | {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        }


def native(url: str, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        f"{url}/api/v1{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with running_server(tmp_path_factory.mktemp("hf")) as server:
        yield prepare(server)


def prepare(server: RunningServer) -> Wire:
    """Add a user who may only read."""
    native(server.url, server.token, "POST", "/users", {"name": "rita"})
    wanted = {"name": "reading", "scopes": ["read"], "user": "rita"}
    made = native(server.url, server.token, "POST", "/tokens", wanted)
    return Wire(server, made["secret"])


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Local adapters: one, two (other weights), large, several (large files), git-style, trainer's, pickled."""
    root = tmp_path_factory.mktemp("adapters")
    made = {name: write_adapter(root / name, seed=seed, base=BASE, readme=CARD) for seed, name in enumerate(_NAMES)}
    made["large"] = large_adapter(root / "large", 20_000_000)
    _add_large_files(made["several"])
    _add_git_files(made["git-style"])
    _add_leftovers(made["trainer"])
    made |= _add_foreign(root, made["one"] / "adapter_model.safetensors")
    (made["pickled"] / "adapter_model.safetensors").unlink()
    (made["pickled"] / "adapter_model.bin").write_bytes(b"\x80\x04\x95.")
    return made


def _add_foreign(root: Path, weights: Path) -> dict[str, Path]:
    """What is no LoRA adapter of PEFT's, or not at the top: each with real weights, which must not be sent."""
    loha = {"peft_type": "LOHA", "r": 8, "alpha": 8, "target_modules": ["q_proj"]}
    files = {
        "loha": {"adapter_config.json": json.dumps(loha), "adapter_model.safetensors": None},
        "diffusers": {"pytorch_lora_weights.safetensors": None},
        "full-model": {"config.json": "{}", "model.safetensors": None},
        "named": {
            "poet/adapter_config.json": json.dumps({"peft_type": "LORA"}),
            "poet/adapter_model.safetensors": None,
        },
    }
    for name, parts in files.items():
        for path, text in parts.items():
            target = root / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(weights.read_bytes() if text is None else text.encode())
    return {name: root / name for name in files}


_NAMES = ("one", "two", "several", "git-style", "trainer", "pickled")


def _add_large_files(folder: Path) -> None:
    """Files that go through LFS or Xet beside the weights: one by its name's end, one by its size."""
    (folder / "extra").mkdir()
    shape, data = random_tensor(random.Random(7), (300, 300))
    write_safetensors(folder / "extra" / "embeddings.safetensors", {"embeddings": (shape, data)})
    (folder / "tokenizer.json").write_text(json.dumps({"vocab": ["word"] * 1_400_000}), "utf-8")


def _add_git_files(folder: Path) -> None:
    for name, data in {
        ".gitattributes": b"*.safetensors filter=lfs\n",
        ".gitignore": b"*.tmp.txt\n",
        ".git/config": b"[core]\n",
        "empty.txt": b"",
        "notes/with space.txt": b"spaces",
        "notes/grüße % 100#.txt": "grüße".encode(),
        "tokenizer/deep/vocab.txt": b"a\nb\n",
        "文档.md": "# 适配器\n".encode(),
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _add_leftovers(folder: Path) -> None:
    for name in ("training_args.bin", "checkpoint-10/optimizer.pt", "runs/events.out.tfevents.1", "optimizer.pt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PK\x03\x04")


def seed_qa(wire: Wire, namespace: str, folders: dict[str, Path]) -> str:
    """Publish `namespace/qa` v1 and v2 with lorahub's own command, and the alias prod -> v2."""
    name = f"{namespace}/qa"
    for folder in ("one", "two"):
        wire.server.cli("push", str(folders[folder]), name)
    wire.native("PUT", f"/adapters/{name}/aliases/prod", {"version": 2})
    return name


def seed_large(wire: Wire, namespace: str, folders: dict[str, Path]) -> None:
    wire.server.cli("push", str(folders["large"]), f"{namespace}/large")


def run_python(python: Path, *args: str, env: dict[str, str], cwd: Path | None = None) -> str:
    """Run an interpreter, maybe another one; return what it printed, and fail with that if it fails."""
    done = subprocess.run(
        [str(python), *args], env=env, cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{args[:2]} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
