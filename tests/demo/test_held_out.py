from __future__ import annotations

from pathlib import Path

import pytest

import hub
from hub.demo.held_out import Score, answer, encode_prompts, is_json_answer, is_label, score
from hub.training.examples import read_examples
from tests.training.bases import write_base


@pytest.mark.parametrize("text", ['{"answer": "Paris"}', '{"answer":""}', '{ "answer" : "a b" }'])
def test_one_line_of_json_with_an_answer_has_the_form(text: str) -> None:
    assert is_json_answer(text)


@pytest.mark.parametrize(
    "text",
    ["Paris", '{"answer": 4}', '{"answer": "a", "why": "b"}', '{"Answer": "a"}', '["answer"]', '{"answer": "a"', "",
     '{"answer":\n"a"}', 'Sure! {"answer": "a"}', '"answer"', "null"],
)  # fmt: skip
def test_anything_else_has_not(text: str) -> None:
    assert not is_json_answer(text)


def test_a_label_is_one_of_three_words_and_nothing_more() -> None:
    assert all(is_label(text) for text in ("positive", "negative", "neutral"))
    assert not any(is_label(text) for text in ("Positive", "positive.", "", "mixed", "positive negative"))


def test_a_score_counts_form_and_right_answers_apart() -> None:
    examples = read_examples([{"prompt": str(number), "completion": "positive"} for number in range(4)])
    found = score(["positive", "negative", "a good text", "positive"], examples, is_label)
    assert found == Score(asked=4, formed=3, right=2)
    assert found.share == 0.75


def test_answers_in_a_batch_are_those_of_each_prompt_alone(tmp_path: Path) -> None:
    """Padding on the wrong side, or a mask that is forgotten, would change what shorter prompts get."""
    model = hub.load(write_base(tmp_path / "base"), quantize=None, device="cpu")
    examples = read_examples([{"prompt": "x" * (7 * length + 1), "completion": "y"} for length in range(5)])
    heard: list[int] = []
    together = answer(model, examples, 6, heard.append)
    alone = [answer(model, [example], 6)[0] for example in examples]
    assert together == alone
    assert heard == [5]
    inputs = encode_prompts(model, examples)
    assert inputs["attention_mask"][0].tolist() == sorted(inputs["attention_mask"][0].tolist())  # type: ignore[index]
