"""Patterns of strangers: the ones that people write are taken, the ones that keep `re` busy are not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.module_patterns import MAX_REPEATING_KEYS, PatternTable
from hub.safe_pattern import MAX_PATTERN_LENGTH, UnsafePattern, check_pattern, has_repeats, is_literal

WRITTEN_BY_PEOPLE = [
    "q_proj",
    "model.layers.0.self_attn.q_proj",
    r"^model\.decoder\.layers\.0\.encoder_attn\.k_proj",
    r".*\.(q_proj|k_proj|v_proj|o_proj)$",
    r"model\.layers\.\d+\.mlp\.(gate|up|down)_proj",
    r".*\.layers\.([0-9]|1[0-5])\.self_attn\..*",
    r"^(?!.*(lm_head|output|emb|wte|shared)).*",
    r"^(model\.language_model(?=\.).*\.(o_proj|gate_proj|q_proj))$",
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|ffn|dense).*?(?:k_proj|v_proj|q_proj|fc1|fc2).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp)\.(?:(?:k_proj|v_proj|q_proj|o_proj)))",
    r"transformer\.h\.[0-9]{1,2}\.attn\.c_attn",
]

EXPENSIVE_OR_OBSCURE = [
    r"([\w.]+)+!",
    "(a|a)*b",
    "(.*)*x",
    "(a+)+",
    "(x+x+)+y",
    "(?:a?){30}a{30}",
    ".*.*.*.*.*x",
    "a?" * 20 + "a" * 20,
    "(a|ab|abc)" * 8 + "!",
    r"(\w|\d)" * 12 + "!",
    r"(a)\1",
    "(?P<name>a)",
    "(?i)a",
    "(?<=a)b",
    "(?>a)",
    "a**",
    "a{1,}{2,}",
    "[",
    "(",
    ")",
    "a|)",
    "*",
    "a" * (MAX_PATTERN_LENGTH + 1) + "*",
    "(" * 50 + ")" * 50,
    "ä",
    "a\nb",
    r"\p{L}",
    "[[:alpha:]]",
]


@pytest.mark.parametrize("pattern", WRITTEN_BY_PEOPLE)
def test_patterns_that_people_write_are_taken(pattern):
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", EXPENSIVE_OR_OBSCURE)
def test_patterns_that_may_take_for_ever_are_refused_with_the_reason(pattern):
    with pytest.raises(UnsafePattern) as caught:
        check_pattern(pattern)
    assert str(caught.value)


PIECES = st.sampled_from(
    ["a", "b", ".", r"\.", r"\w", r"\d", "[ab]", "(a|b)", "(?:a|ab)", "a?", ".*", ".*?", "a+", r"\w+", "(?=a)", "(?!b)",
     "a{1,3}", "(ab)?", "^", "$", "|"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_an_accepted_pattern_is_valid_and_ends_on_the_worst_name(pattern):
    try:
        check_pattern(pattern)
    except UnsafePattern:
        return
    # A name of one repeated letter with a last one that fits nothing makes `re` try every way.
    regex = re.compile(rf"(.*\.)?({pattern})$")
    regex.match("a" * 40 + "!")
    regex.match("a." * 20 + "!")


def test_the_cost_of_the_worst_accepted_pattern_grows_no_faster_than_its_repeats(benchmark_ratio):
    worst = re.compile("a".join([".*?"] * 4) + "!")
    ratio = benchmark_ratio(lambda: worst.fullmatch("a" * 80), lambda: worst.fullmatch("a" * 40))
    assert ratio < 2**4 * 4, "four repeats: twice the length costs 2 ** 4 times as much, not 2 ** 40 times"


@pytest.mark.parametrize(
    ("text", "literal"), [("q_proj", True), ("a.b-c_1", True), ("a*", False), ("", False), ("ä", False)]
)
def test_a_plain_dotted_name_is_a_literal(text, literal):
    assert is_literal(text) is literal
    assert not (literal and has_repeats(text))


def test_too_many_keys_with_repeats_are_refused_together():
    keys = [f".*x{n}" for n in range(MAX_REPEATING_KEYS + 1)]
    PatternTable(keys[:-1])
    with pytest.raises(UnsafePattern, match="plain module names"):
        PatternTable(keys)


def test_too_many_layouts_are_refused_together():
    with pytest.raises(UnsafePattern, match="plain module names"):
        PatternTable(["a" * n for n in range(1, 400)])
