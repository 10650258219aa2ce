"""Front matter: what is read of it, and what can't hurt."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from hub.registry.library.card import MAX_TAGS, Card, read_card


def test_front_matter_gives_task_license_tags_and_description() -> None:
    text = b"---\ntask: qa\nlicense: mit\ntags: [Legal, lora, base_model:x]\ndescription: Short.\n---\n# T\n\nBody.\n"
    assert read_card(text) == Card("qa", "mit", ("legal",), "Short.")


def test_first_paragraph_of_prose_describes_where_nothing_else_does() -> None:
    text = b"# Title\n\n![badge](x)\n\n- a list\n\n```\ncode\n```\n\nAnswers questions\nin JSON.\n\nMore.\n"
    assert read_card(text).description == "Answers questions in JSON."


def test_a_description_is_plain_text() -> None:
    text = b"# Title\n\nAnswers **one line** of `JSON`, see [the docs](http://x/).\n"
    assert read_card(text).description == "Answers one line of JSON, see the docs."


def test_every_scalar_is_a_text() -> None:
    assert read_card(b"---\nlicense: 12\ntags: 5\n---\n") == Card(license="12", tags=("5",))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"---\n: : :\n---\n",
        b"---\n[1, 2]\n---\n",
        b"---\nlicense: [a, b]\ntags: {a: 1}\n---\n",
        b"---\nlicense: !!python/object/apply:os.system ['id']\n---\n",
        b"\xff\xfe\x00---",
        b"---\nno end",
        b"---\n" + b"a: {" * 3000 + b"\n---\n",
    ],
)
def test_card_that_says_nothing_readable_is_an_empty_card(text: bytes) -> None:
    card = read_card(text)
    assert (card.task, card.license, card.tags) == (None, None, ())


def test_alias_bomb_does_not_go_off() -> None:
    levels = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    levels += [f"{b}: &{b} [{','.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=False)]
    bomb = ("---\nlicense: mit\n" + "\n".join(levels) + "\ntags: *i\n---\n").encode()
    assert len(bomb) < 500
    tracemalloc.start()
    began = time.process_time()
    assert read_card(bomb) == Card()
    assert time.process_time() - began < 1
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_tags_are_few_short_and_named_once() -> None:
    tags = ", ".join(["x" * 500, "Same", "same", *(f"t{number}" for number in range(500))])
    card = read_card(f"---\ntags: [{tags}]\n---\n".encode())
    assert len(card.tags) == MAX_TAGS
    assert max(map(len, card.tags)) == 64
    assert card.tags.count("same") == 1
