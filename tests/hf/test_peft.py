"""PEFT and transformers take lorahub for the Hub: loads, pushes, and how many requests a cached load makes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.hf.conftest import Wire, run_script, seed_qa

SCRIPT = Path(__file__).with_name("peft_steps.py")
STEPS = ("load_by_tag", "load_second_adapter", "push_peft_model", "load_by_transformers", "push_by_trainer")


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
    (tmp / "facts.json").write_text(json.dumps(facts), "utf-8")
    env = wire.client_env(tmp) | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    print(run_script(Path(sys.executable), SCRIPT, str(tmp / "facts.json"), str(tmp / "results.json"), env=env))
    outcome: dict[str, str] = json.loads((tmp / "results.json").read_text("utf-8"))
    return outcome


@pytest.mark.parametrize("step", STEPS)
def test_peft_and_transformers(step: str, results: dict[str, str]) -> None:
    assert results[step] == "ok", results[step]
