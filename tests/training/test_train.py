"""Training on a tiny random base: what comes out, what it records, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import hub
from hub.adapter.files import build_manifest, scan_folder
from hub.adapter.provenance import Provenance
from hub.base.spec import BaseMatch, BaseSpec, compare_identity
from hub.errors import BaseNotFound, Incompatible, InvalidRequest, TrainingDiverged
from hub.training import TrainingStep
from hub.training.base import TrainingBase, load_model, load_tokenizer
from hub.training.encoding import encode
from hub.training.examples import read_examples
from hub.training.loss import completion_loss

DATA = [{"prompt": f"{number} and {number}", "completion": "yes" if number % 2 else "no"} for number in range(12)]
FAST: dict[str, Any] = {"batch_size": 4, "learning_rate": 1e-2, "device": "cpu"}


def loss_on_data(base: Path, adapter: Path | None) -> float:
    origin = TrainingBase.open(base)
    model = load_model(origin, "cpu", None)
    tokenizer = load_tokenizer(origin)
    rows = [encode(tokenizer, example, 512) for example in read_examples(DATA)]
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.no_grad():
        return float(completion_loss(model, rows))


def test_an_adapter_learns_its_completions(tiny_base: Path, tmp_path: Path) -> None:
    trained = hub.train(tiny_base, DATA, tmp_path / "adapter", steps=40, **FAST)
    assert loss_on_data(tiny_base, trained.path) < 0.3 * loss_on_data(tiny_base, None)
    assert len(trained.losses) == 40
    assert trained.examples == 12


def test_the_folder_is_peft_s_with_a_card_and_no_path_of_this_machine(tiny_base: Path, tmp_path: Path) -> None:
    trained = hub.train(tiny_base, DATA, tmp_path / "adapter", steps=2, rank=4, alpha=8, **FAST)
    config = json.loads((trained.path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert sorted(config["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert config["base_model_name_or_path"] == "tiny-llama"
    tensors = load_file(trained.path / "adapter_model.safetensors")
    assert len(tensors) == 2 * 4 * 2  # two layers, four modules, A and B
    assert all("embed" not in name for name in tensors)
    card = (trained.path / "README.md").read_text()
    assert card.startswith('---\nbase_model: "tiny-llama"\n')
    for file in trained.path.glob("*.*"):
        assert str(tmp_path).encode() not in file.read_bytes()
        assert str(tiny_base.parent).encode() not in file.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_base_s_fingerprint_goes_with_the_folder(tiny_base: Path, other_base: Path, tmp_path: Path) -> None:
    trained = hub.train(tiny_base, DATA, tmp_path / "adapter", steps=1, **FAST)
    recorded = Provenance.read(trained.path)
    assert recorded is not None
    assert recorded.base == trained.base
    assert compare_identity(recorded.base, BaseSpec.from_folder(tiny_base)) is BaseMatch.SAME_WEIGHTS
    assert compare_identity(recorded.base, BaseSpec.from_folder(other_base)) is BaseMatch.OTHER_WEIGHTS
    assert "lorahub.json" in scan_folder(trained.path).files


def test_a_given_name_stands_for_the_base(tiny_base: Path, tmp_path: Path) -> None:
    trained = hub.train(tiny_base, DATA, tmp_path / "adapter", steps=1, base_id="acme/tiny", **FAST)
    assert trained.base.id == "acme/tiny"
    manifest = build_manifest(scan_folder(trained.path).readables(), trained.base)
    assert manifest.config["base_model_name_or_path"] == "acme/tiny"


def test_the_same_seed_gives_the_same_adapter(tiny_base: Path, tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate([0, 0, 1]):
        torch.manual_seed(number)  # what the program drew before is no matter
        trained = hub.train(tiny_base, DATA, tmp_path / str(number), steps=3, seed=seed, dropout=0.1, **FAST)
        weights.append((trained.path / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_training_leaves_the_program_s_random_numbers_alone(tiny_base: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    hub.train(tiny_base, DATA, tmp_path / "adapter", steps=1, dropout=0.1, **FAST)
    assert torch.rand(1) == expected


def test_a_second_round_goes_on_where_the_first_stopped(tiny_base: Path, tmp_path: Path) -> None:
    first = hub.train(tiny_base, DATA, tmp_path / "first", steps=20, rank=2, **FAST)
    second = hub.train(tiny_base, DATA, tmp_path / "second", steps=20, continue_from=first.path, **FAST)
    # The first loss of the round is the one that the first adapter has on that batch: below the bare base's.
    assert second.losses[0] < 0.7 * first.losses[0]
    assert loss_on_data(tiny_base, second.path) < loss_on_data(tiny_base, first.path)
    assert json.loads((second.path / "adapter_config.json").read_text())["r"] == 2
    assert second.trained_from is None  # a folder is no version


def test_a_second_round_keeps_the_form_of_the_first(tiny_base: Path, tmp_path: Path) -> None:
    first = hub.train(tiny_base, DATA, tmp_path / "first", steps=1, **FAST)
    with pytest.raises(InvalidRequest, match=r"alpha, rank can't be set with continue_from"):
        hub.train(tiny_base, DATA, tmp_path / "second", continue_from=first.path, rank=4, alpha=8)


def test_a_second_round_on_another_base_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    from tests.training.bases import write_base

    first = hub.train(tiny_base, DATA, tmp_path / "first", steps=1, **FAST)
    wider = write_base(tmp_path / "wider", hidden_size=96)
    with pytest.raises(Incompatible):
        hub.train(wider, DATA, tmp_path / "second", continue_from=first.path, steps=1, **FAST)
    assert not (tmp_path / "second").exists()


def test_a_second_round_on_other_weights_is_refused(tiny_base: Path, other_base: Path, tmp_path: Path) -> None:
    first = hub.train(tiny_base, DATA, tmp_path / "first", steps=1, **FAST)
    with pytest.raises(Incompatible):
        hub.train(other_base, DATA, tmp_path / "second", continue_from=first.path, steps=1, **FAST)


def test_qlora_trains_on_a_4_bit_base_and_records_the_original(tiny_base: Path, tmp_path: Path) -> None:
    trained = hub.train(tiny_base, DATA, tmp_path / "adapter", steps=20, quantize="nf4", **FAST)
    assert trained.losses[-1] < 0.7 * trained.losses[0]
    assert compare_identity(trained.base, BaseSpec.from_folder(tiny_base)) is BaseMatch.SAME_WEIGHTS


def test_progress_tells_every_step(tiny_base: Path, tmp_path: Path) -> None:
    heard: list[TrainingStep] = []
    trained = hub.train(tiny_base, DATA, tmp_path / "adapter", epochs=2, progress=heard.append, **FAST)
    assert [(step.step, step.steps) for step in heard] == [(number, 6) for number in range(1, 7)]
    assert tuple(step.loss for step in heard) == trained.losses
    assert heard[0].seconds <= heard[-1].seconds


def test_a_loss_that_is_no_number_stops_training_and_leaves_nothing(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="lower learning_rate than 1e"):
        hub.train(tiny_base, DATA, tmp_path / "adapter", steps=50, learning_rate=1e30, batch_size=4)
    assert not (tmp_path / "adapter").exists()


def test_ctrl_c_leaves_nothing_behind(tiny_base: Path, tmp_path: Path) -> None:
    def interrupt(step: TrainingStep) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.train(tiny_base, DATA, tmp_path / "out" / "adapter", steps=2, progress=interrupt, **FAST)
    assert not (tmp_path / "out").exists()


def test_an_output_that_has_files_is_never_touched(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidRequest, match="not empty"):
        hub.train(tiny_base, DATA, tmp_path, steps=1, **FAST)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"steps": 0}, "steps is 0"),
        ({"quantize": "int3"}, "quantize is 'int3'"),
        ({"ranks": 8}, "no setting ranks; it has rank, alpha"),
        ({"target_modules": ["q_prj"]}, "q_prj"),
        ({"max_length": 3}, "max_length is 3"),
    ],
)
def test_bad_settings_are_refused_by_name(tiny_base: Path, tmp_path: Path, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        hub.train(tiny_base, DATA, tmp_path / "adapter", **settings)
    assert why in caught.value.message
    assert not (tmp_path / "adapter").exists()


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseNotFound, match="no-such-folder"):
        hub.train("./no-such-folder", DATA, tmp_path / "adapter")
