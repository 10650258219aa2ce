"""PEFT and transformers take lorahub for the Hub: loads, pushes, and how many requests a cached load makes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.hf.conftest import Wire, run_python, seed_qa
from tests.hf.counting_proxy import counting_proxy

SCRIPT = Path(__file__).with_name("peft_steps.py")
STEPS = (
    "load_by_tag",
    "load_again_from_cache",
    "load_yanked",
    "load_second_adapter",
    "push_peft_model",
    "load_by_transformers",
    "main_stays_good",
    "push_with_tokenizer_first",
    "push_named_adapter",
    "push_by_trainer",
    "push_checkpoints",
)


@pytest.fixture(scope="session")
def results(wire: Wire, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("peft")
    tmp = tmp_path_factory.mktemp("peft")
    namespace = wire.namespace("peft")
    facts = {
        "qa": seed_qa(wire, namespace, folders),
        "namespace": namespace,
        "tmp": str(tmp),
        "folders": {name: str(path) for name, path in folders.items()},
    }
    seed_yanked(wire, namespace, folders)
    (tmp / "facts.json").write_text(json.dumps(facts), "utf-8")
    env = wire.client_env(tmp) | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    arguments = (str(tmp / "facts.json"), str(tmp / "results.json"))
    with counting_proxy(wire.url) as counter:
        print(run_python(Path(sys.executable), str(SCRIPT), *arguments, env=env | {"HF_ENDPOINT": counter.url}))
    outcome: dict[str, str] = json.loads((tmp / "results.json").read_text("utf-8"))
    return outcome


def seed_yanked(wire: Wire, namespace: str, folders: dict[str, Path]) -> None:
    wire.server.cli("push", str(folders["one"]), f"{namespace}/yanked")
    wire.native("POST", f"/adapters/{namespace}/yanked/versions/1/yank", {"reason": "It was trained on the test set"})


@pytest.mark.parametrize("step", STEPS)
def test_peft_and_transformers(step: str, results: dict[str, str]) -> None:
    assert results[step] == "ok", results[step]
