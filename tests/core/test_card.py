"""A model card's front matter: read for what it says, never for what YAML could make of it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.card import MAX_FRONT_MATTER_BYTES, MAX_TAGS, parse_card, read_card
from hub.errors import InvalidAdapter

CARD = """---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
pipeline_tag: text-generation
language:
- en
- no
tags:
- lora
- base_model:adapter:x
- lora
description: |
  Answers questions
  in one line.
datasets: [a/b, c/d]
model-index:
- name: qa
  results:
  - task: {type: qa}
    metrics: [{type: em, value: 0.93}]
---

# Question answering
Text.
"""


def card(front, text="# Card\n"):
    return f"---\n{front}\n---\n{text}".encode()


def test_what_a_card_says_is_read():
    found = parse_card(CARD.encode())
    assert found.license == "apache-2.0"
    assert found.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert found.task == "text-generation"
    assert found.language == ("en", "no")
    assert found.tags == ("lora", "base_model:adapter:x")
    assert found.description == "Answers questions in one line."
    assert found.datasets == ("a/b", "c/d")
    assert found.metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == "0.93"
    assert found.text == "# Question answering\nText.\n"


@pytest.mark.parametrize("value", ["no", "1.10", "2024-01-01", "0x10", "null", "~", "1e3", "true"])
def test_every_scalar_is_the_text_that_was_written(value):
    assert parse_card(card(f"license: {value}")).license == value


def test_a_card_without_front_matter_is_its_text():
    for text in ("# Title\n---\nnot: meta\n---\n", "", "---\nnever: closed\n"):
        found = parse_card(text.encode())
        assert (found.text, found.metadata) == (text, {})


def test_windows_lines_and_a_byte_order_mark_are_read():
    assert parse_card(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\ntext").license == "mit"


@pytest.mark.parametrize("key", ["task", "pipeline_tag"])
def test_the_task_has_two_names(key):
    assert parse_card(card(f"{key}: qa")).task == "qa"


BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
        f"{c}: &{c} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "an anchor": "a: &x 1",
    "a merge": "a: &x {b: c}\nd:\n  <<: *x",
    "depth": "a: " + "[" * 200 + "]" * 200,
    "a flow of maps": "a: " + "{b: " * 200 + "c" + "}" * 200,
    "size": "a: " + "x" * MAX_FRONT_MATTER_BYTES,
    "a list": "- a\n- b",
    "a bare text": "just text",
    "a number as a name": "? [1, 2]\n: b",
    "broken quotes": 'a: "b',
    "a tab": "a:\n\t- b",
    "a control character": "a: \x00",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_malformed_or_explosive_front_matter_is_refused_but_the_card_is_still_a_card(name):
    data = card(BOMBS[name])
    with pytest.raises(InvalidAdapter, match="front matter of README") as caught:
        parse_card(data)
    assert len(caught.value.message) < 300
    found = read_card(data)
    assert (found.metadata, found.license) == ({}, None)
    assert "# Card" in found.text


def test_a_python_tag_makes_no_object():
    with suppress(InvalidAdapter):
        found = parse_card(card("license: !!python/object/apply:os.system ['echo']"))
        assert found.license is None


def test_what_is_not_utf8_or_too_large_is_refused_and_still_shown():
    with pytest.raises(InvalidAdapter, match="UTF-8"):
        parse_card(b"\xff\xfe")
    with pytest.raises(InvalidAdapter, match="allowed"):
        parse_card(b"x" * (2 << 20))
    assert len(read_card(b"x" * (2 << 20)).text) == 1 << 20


def test_values_are_bounded_and_without_control_characters():
    found = parse_card(card('description: "a\\nb\\tc"\ntags: [' + ",".join(f"t{n}" for n in range(200)) + "]"))
    assert found.description == "a b c"
    assert len(found.tags) == MAX_TAGS
    assert len(parse_card(card("license: " + "x" * 5000)).license) == 300


@pytest.mark.parametrize("value", ["[1, 2]", "{a: b}", "", "[]"])
def test_a_value_of_the_wrong_kind_is_left_out(value):
    found = parse_card(card(f"license: {value}\ntask: {value}\ndescription: {value}"))
    assert (found.license, found.task, found.description) == (None, None, None)


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_card_is_read_and_nothing_else_happens(data):
    raw = data if isinstance(data, bytes) else card(data)
    read_card(raw)
    with suppress(InvalidAdapter):
        parse_card(raw)
