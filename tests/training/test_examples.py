from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.errors import InvalidRequest
from hub.training.examples import Example, Message, read_examples


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_prompt_and_completion_become_one_turn() -> None:
    [example] = read_examples([{"prompt": "What is 2 + 2?", "completion": "4"}])
    assert example == Example((Message("user", "What is 2 + 2?"),), "4")


def test_only_the_last_message_is_the_answer() -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "2 + 2?"), ("assistant", "4")]
    [example] = read_examples([{"messages": [{"role": role, "content": text} for role, text in turns]}])
    assert example.completion == "4"
    assert [message.role for message in example.context] == ["system", "user", "assistant", "user"]
    assert example.prompt == "2 + 2?"


def test_several_files_are_read_in_order_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", '{"prompt": "a", "completion": "1"}', "", '{"prompt": "b", "completion": "2"}')
    second = write(tmp_path / "b.jsonl", '{"prompt": "c", "completion": "3"}')
    assert [example.prompt for example in read_examples([first, str(second)])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[1]", "it is no object"),
        ('{"prompt": "a"}', '"prompt" and "completion"'),
        ('{"prompt": "a", "completion": 4}', '"prompt" and "completion"'),
        ('{"prompt": "a", "completion": " "}', "nothing to learn"),
        ('{"messages": []}', "two messages at least"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}', "the assistant's"),
        (
            '{"messages": [{"role": "robot", "content": "a"}, {"role": "assistant", "content": "b"}]}',
            "assistant, system",
        ),
    ],
)
def test_what_is_no_example_is_refused_by_file_and_line(tmp_path: Path, line: str, why: str) -> None:
    path = write(tmp_path / "data.jsonl", '{"prompt": "a", "completion": "1"}', line)
    with pytest.raises(InvalidRequest) as caught:
        read_examples(path)
    assert f"{path}, line 2" in caught.value.message
    assert why in caught.value.message


def test_a_missing_file_an_empty_one_and_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"absent\.jsonl can't be read: No such file"):
        read_examples(tmp_path / "absent.jsonl")
    with pytest.raises(InvalidRequest, match="no examples"):
        read_examples(write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        read_examples(tmp_path / "bytes.jsonl")


def test_the_project_s_own_sets_are_whole_and_apart() -> None:
    root = Path(__file__).parents[2] / "examples"
    for name, needed in [("qa", ["train", "train-more", "held-out"]), ("sentiment", ["train", "held-out"])]:
        files = {part: read_examples(root / name / f"{part}.jsonl") for part in needed}
        assert len(files["train"]) >= 120
        assert len(files["held-out"]) == 24
        prompts = [example.prompt for examples in files.values() for example in examples]
        assert len(set(prompts)) == len(prompts), f"{name}: a prompt stands in two files"


def test_every_answer_of_the_sets_has_the_form_that_is_taught() -> None:
    root = Path(__file__).parents[2] / "examples"
    for path in root.glob("qa/*.jsonl"):
        for example in read_examples(path):
            assert list(json.loads(example.completion)) == ["answer"]
            assert "json" not in example.prompt.lower()
    for path in root.glob("sentiment/*.jsonl"):
        for example in read_examples(path):
            assert example.completion in {"positive", "negative", "neutral"}
            assert not {"positive", "negative", "neutral"} & set(example.prompt.lower().split())
