"""A model card's front matter: read for what it says, never for what YAML could make of it."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import HubError
from hub.formats.front_matter import (
    MAX_EVENTS,
    MAX_FRONT_MATTER_BYTES,
    FrontMatter,
    parse_front_matter,
    split_front_matter,
)

CARD = """---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
language:
- en
- no
tags:
- lora
- " qa "
- lora
description: |
  Answers questions
  in one line.
model-index:
- name: qa
  results:
  - task: {type: qa}
    metrics: [{type: em, value: 0.93}]
---
# Question answering
---
Text.
"""


def test_what_a_card_says_is_read():
    front, text = split_front_matter(CARD)
    assert front.problem == ""
    assert front.text("license") == "apache-2.0"
    assert front.texts("base_model") == ("HuggingFaceTB/SmolLM2-135M-Instruct",)
    assert front.texts("language") == ("en", "no")
    assert front.texts("tags") == ("lora", "qa")
    assert front.text("description") == "Answers questions\nin one line."
    assert front.fields["model-index"][0]["results"][0]["metrics"][0]["value"] == "0.93"
    assert text == "# Question answering\n---\nText.\n"


@pytest.mark.parametrize("value", ["no", "1.10", "2024-01-01", "0x10", "null", "~", "1e3", "true", "!!int 5"])
def test_every_scalar_is_the_text_that_was_written(value):
    assert parse_front_matter(f"license: {value}").text("license") == value.rpartition(" ")[2]


@pytest.mark.parametrize(
    "card", ["# Title\n---\nnot: meta\n---\n", "", "---", "---\nnever: closed\n", " ---\na: b\n---\n"]
)
def test_a_card_without_front_matter_is_its_text(card):
    assert split_front_matter(card) == (FrontMatter(), card)


def test_windows_lines_a_byte_order_mark_and_dots_are_read():
    front, text = split_front_matter("\ufeff---\r\nlicense: mit\r\n...\r\ntext")
    assert (front.text("license"), text) == ("mit", "text")


CHAIN = "\n".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n" + CHAIN,
    "an anchor": "a: &x 1",
    "a merge": "a: &x {b: c}\nd:\n  <<: *x",
    "depth": "a: " + "[" * 200 + "]" * 200,
    "a flow of maps": "a: " + "{b: " * 200 + "c" + "}" * 200,
    "size": "a: " + "x" * MAX_FRONT_MATTER_BYTES,
    "entries": "a: [" + "1," * (MAX_EVENTS + 1) + "]",
    "empty lists": "a: [" + "[]," * 5_000 + "]",
    "a list": "- a\n- b",
    "a bare text": "just text",
    "a list as a name": "? [1, 2]\n: b",
    "broken quotes": 'a: "b',
    "a tab": "a:\n\t- b",
    "two documents": "a: b\n--- # more\nc: d",
    "a control character": "a: \x00",
}


@pytest.mark.parametrize("name", BOMBS)
def test_malformed_or_explosive_front_matter_says_its_problem_and_nothing_else(name):
    found = parse_front_matter(BOMBS[name])
    assert found.fields == {}
    assert found.problem.startswith("The front matter ")
    assert len(found.problem) < 250


def test_the_card_below_unreadable_front_matter_is_still_there():
    front, text = split_front_matter("---\na: [\n---\n# Card")
    assert (bool(front.problem), text) == (True, "# Card")


def test_the_worst_block_costs_about_as_much_as_a_full_one(benchmark_ratio):
    worst = "a: [" + "[]," * (MAX_FRONT_MATTER_BYTES // 3 - 4) + "]"
    full = "\n".join(f"name{n}: value" for n in range(MAX_EVENTS // 2 - 10))[:MAX_FRONT_MATTER_BYTES]
    assert benchmark_ratio(lambda: parse_front_matter(worst), lambda: parse_front_matter(full)) < 2


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['echo']", "!!python/name:os.system"])
def test_a_tag_makes_no_object(tag):
    found = parse_front_matter(f"license: {tag}")
    assert found.text("license") in {None, ""}


@pytest.mark.parametrize("value", ["[1, 2]", "{a: b}", "", "[]"])
def test_a_value_of_the_wrong_kind_is_no_text(value):
    assert parse_front_matter(f"license: {value}").text("license") is None


@given(st.text(max_size=200))
def test_any_card_is_split_and_nothing_else_happens(text):
    split_front_matter(text)
    front, rest = split_front_matter(f"---\n{text}\n---\nrest")
    assert isinstance(front, FrontMatter)
    assert rest.endswith("rest")


def test_without_pyyaml_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(HubError, match="pip install pyyaml"):
        parse_front_matter("a: b")
