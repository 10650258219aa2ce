"""The commands that load a model: plan, train, run, merge, on a tiny llama with a real tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Machine

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.training.bases import write_base

    torch.set_num_threads(1)
    return write_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    rows = [{"prompt": f"say {word}", "completion": word} for word in ("yes", "no", "maybe", "never")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_from_data_to_a_merged_model(machine: Machine, base: Path, data: Path, tmp_path: Path):
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    trained = machine.run("train", str(base), str(data), "-o", str(adapter), "--steps", "3", "--rank", "4")
    assert (trained.code, trained.out) == (0, f"{adapter}\n"), trained.err
    assert "step 3/3" in trained.err
    assert machine.ok("push", str(adapter), "tuned/trained") == "tuned/trained@v1\n"
    answered = machine.ok(
        *("run", str(base), "tuned/trained@v1", "-p", "say yes", "--max-new-tokens", "4", "--no-quantize", "--json")
    )
    assert json.loads(answered)["prompt"] == "say yes"
    report = json.loads(
        machine.ok("merge", str(base), "tuned/trained@v1", "-o", str(merged), "--no-quantize", "--json")
    )
    assert report["path"] == str(merged)
    assert report["retention"] == pytest.approx(1.0, abs=0.01)
    bare = machine.ok("run", str(merged), "-p", "say yes", "--max-new-tokens", "4", "--no-quantize", "--json")
    assert json.loads(bare)["answer"] == json.loads(answered)["answer"], "the merged model says what the two said"


def test_plan_adds_up(machine: Machine, base: Path):
    found = json.loads(machine.ok("plan", str(base), "--rank", "4", "--json"))
    parts = found["bytes"]
    assert sum(size for name, size in parts.items() if name != "total") == parts["total"]
    assert "optimizer" in machine.ok("plan", str(base))


def test_an_adapter_of_another_base_is_refused_before_anything_is_loaded(machine: Machine, base: Path, tmp_path: Path):
    from tests.support.adapters import write_adapter

    other = write_adapter(tmp_path / "adapter", hidden=96)
    result = machine.run("run", str(base), str(other), "-p", "x", "--no-quantize")
    assert result.code == 7
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "{base}", "no-data.jsonl", "-o", "out"], 2),
        (["train", "{base}", "{data}"], 2),
        (["run", "./no-model", "-p", "x"], 3),
        (["merge", "{base}", "tuned/none", "-o", "out"], 3),
        (["plan", "./no-model"], 3),
    ],
)
def test_wrong_use_of_a_model_is_told(machine: Machine, base: Path, data: Path, arguments: list[str], code: int):
    result = machine.run(*(argument.format(base=base, data=data) for argument in arguments))
    assert result.code == code, result.err
    assert result.err.startswith("error: ")
