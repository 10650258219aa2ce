"""A slice of the battery, and what holds the battery itself to be one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from tests.battery.bases import BASES
from tests.battery.cases import OPERATIONS, TYPES, draw
from tests.battery.oracle import Workshop
from tests.battery.report import page
from tests.battery.running import Outcome, Wrong, _near, run

SLICE = range(33, 73)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("battery"))


@pytest.mark.parametrize("start", SLICE[::10])
def test_lorahub_says_what_peft_says_or_refuses_as_check_said(start, workshop):
    outcomes = [run(seed, workshop) for seed in range(start, start + 10)]
    bad = [outcome for outcome in outcomes if outcome.verdict in ("wrong", "crashed")]
    assert not bad, "\n".join(f"{o.case.seed} {o.case.base} {o.case.type} {o.case.operation}: {o.detail}" for o in bad)
    assert sum(outcome.verdict == "equal" for outcome in outcomes) >= 5


def test_a_seed_is_one_case_for_ever():
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_all_kinds_are_drawn():
    cases = [draw(seed) for seed in range(2000)]
    assert {case.base for case in cases} == set(BASES)
    assert {case.type for case in cases} == set(TYPES)
    assert {case.operation for case in cases} == set(OPERATIONS)
    fields = Counter(field for case in cases for field in case.fields)
    assert min(fields[name] for name in ("use_dora", "lora_bias", "bias", "modules_to_save", "rank_pattern")) > 50


def test_a_wrong_answer_is_found():
    right = torch.ones(8)
    _near(right * (1 + 1e-6), right, 1e-4, "load")
    for wrong in (right * 1.001, right * float("nan")):
        with pytest.raises(Wrong):
            _near(wrong, right, 1e-4, "load")


def test_an_adapter_that_was_changed_is_told_from_peft_s(workshop, monkeypatch):
    """The whole way: were the runtime to take another scaling, the outcome would be wrong."""
    from hub.adapter.config import LoraConfig

    seed = next(seed for seed in range(1000) if draw(seed).base == "llama" and draw(seed).fields == ("plain LoRA",))
    assert run(seed, workshop).verdict == "equal"
    monkeypatch.setattr(LoraConfig, "scaling_for", lambda self, module: 0.9 * self.alpha / self.rank)
    assert run(seed, workshop).verdict == "wrong"


def test_the_page_counts_by_architecture_and_by_field():
    case = draw(3)
    text = page([Outcome(case, "equal", bits=True), Outcome(case, "refused", "why"), Outcome(case, "none")], 3)
    assert "**2 compared: 1 equal, 1 refused, 0 wrong, 0 crashed.** 1 were equal to the last bit." in text
    for name in (case.base, case.type, case.operation, *case.fields):
        assert f"| {name} | 1 | 1 | 0 | 0 |" in text
    assert "seed 3" in page([Outcome(replace(case), "wrong", "0.5 off")], 3)
