"""Patterns of strangers: the ones that people write are taken, the ones that keep `re` busy are not."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.adapter.config import LoraConfig
from hub.adapter.content import AdapterContent
from hub.adapter.patterns import MAX_LAYOUTS, MAX_REGEX_KEYS, PatternTable
from hub.errors import InvalidAdapter
from hub.formats.safe_pattern import (
    MAX_CHOICES,
    MAX_PATTERN_LENGTH,
    MAX_REPEATS,
    UnsafePattern,
    check_pattern,
    is_literal,
)
from hub.manifest import TensorEntry

# How many parts of each may match a name in more than one length: `?` and a fixed count do not count, and of two
# alternatives the one that has more of them does.
WRITTEN_BY_PEOPLE = [
    ("q_proj", 0),
    ("model.layers.0.self_attn.q_proj", 0),
    (r"^model\.decoder\.layers\.0\.encoder_attn\.k_proj", 0),
    (r".*\.(q_proj|k_proj|v_proj|o_proj)$", 1),
    (r"model\.layers\.\d+\.mlp\.(gate|up|down)_proj", 1),
    (r".*\.layers\.([0-9]|1[0-5])\.self_attn\..*", 2),
    (r"^(?!.*(lm_head|output|emb|wte|shared)).*", 2),
    (r"^(model\.language_model(?=\.).*\.(o_proj|gate_proj|q_proj))$", 1),
    (
        r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|ffn|dense).*?(?:k_proj|v_proj|q_proj|fc1|fc2).*?)"
        r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp)\.(?:(?:k_proj|v_proj|q_proj|o_proj)))",
        4,
    ),
    (r"transformer\.h\.[0-9]{1,2}\.attn\.c_attn", 1),
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


@pytest.mark.parametrize(("pattern", "repeats"), WRITTEN_BY_PEOPLE)
def test_patterns_that_people_write_are_taken(pattern, repeats):
    assert check_pattern(pattern).repeats == repeats


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
        cost = check_pattern(pattern)
    except UnsafePattern:
        return
    assert cost.repeats <= MAX_REPEATS
    assert cost.choices <= MAX_CHOICES[cost.repeats]
    # A name of one repeated letter with a last one that fits nothing makes `re` try every way.
    regex = re.compile(rf"(.*\.)?({pattern})$")
    regex.match("a" * 40 + "!")
    regex.match("a." * 20 + "!")


NAMES = st.lists(st.sampled_from(["a", "b", "ab", "a_b", "0", "1a", ""]), min_size=1, max_size=5).map(".".join)


@settings(max_examples=300)
@given(st.lists(st.lists(PIECES, min_size=1, max_size=6).map("".join), max_size=4, unique=True), NAMES)
@example(["^b"], "a.b")
@example([r"\bb"], "a.b")
@example(["a|b"], "x.b")
@example(["(?!a)b"], "a.b")
@example(["b$"], "a.b")
@example([r"\.b"], "a..b")
def test_the_first_key_that_matches_is_the_one_that_peft_finds(keys, name):
    try:
        table = PatternTable(keys)
    except UnsafePattern:
        return
    expected = next((key for key in keys if re.match(rf"(.*\.)?({key})$", name)), None)
    assert table.first_match(name) == expected


def test_the_cost_of_the_worst_accepted_pattern_grows_no_faster_than_its_repeats(benchmark_ratio):
    worst = re.compile("a".join([".*?"] * 4) + "!")
    ratio = benchmark_ratio(lambda: worst.fullmatch("a" * 80), lambda: worst.fullmatch("a" * 40))
    assert ratio < 2**4 * 4, "four repeats: twice the length costs 2 ** 4 times as much, not 2 ** 40 times"


@pytest.mark.parametrize(
    ("text", "literal"), [("q_proj", True), ("a.b-c_1", True), ("a*", False), ("", False), ("ä", False)]
)
def test_a_plain_dotted_name_is_a_literal(text, literal):
    assert is_literal(text) is literal


def test_too_many_keys_that_are_no_names_are_refused_together():
    keys = [f".x{n}?" for n in range(MAX_REGEX_KEYS + 1)]
    PatternTable(keys[:-1])
    with pytest.raises(UnsafePattern, match="plain module names"):
        PatternTable(keys)


def test_too_many_layouts_are_refused_together():
    keys = ["a" * n for n in range(1, MAX_LAYOUTS + 2)]
    PatternTable(keys[:-1])
    with pytest.raises(UnsafePattern, match="plain module names"):
        PatternTable(keys)


def test_the_steps_of_a_match_are_counted_before_it_is_made(benchmark_ratio):
    # A name of many equal parts makes `re` try every way that the count foresees.
    table = PatternTable([".*a.*!"])
    short, long = "a." * 20 + "a", "a." * 80 + "a"
    ratio = benchmark_ratio(lambda: table.first_match(long), lambda: table.first_match(short))
    assert table.steps(long) / table.steps(short) > ratio / 4


def test_names_made_to_keep_patterns_busy_are_refused_before_they_are_matched():
    config = LoraConfig.from_json({"peft_type": "LORA", "r": 1, "rank_pattern": {".*a.*!": 2}})
    names = [f"base_model.model.{'a.' * 200}m{n}.lora_{half}.weight" for n in range(500) for half in "AB"]
    with pytest.raises(InvalidAdapter, match="too long on this many modules"):
        AdapterContent.build(config, [TensorEntry(name, "F32", (1, 1)) for name in names])


def test_patterns_of_people_on_a_large_model_are_taken():
    keys = {r"model\.layers\.\d+\.self_attn\..*": 8, ".*down_proj": 4} | {
        f"layers.{n}.mlp.up_proj": 2 for n in range(80)
    }
    config = LoraConfig.from_json({"peft_type": "LORA", "r": 1, "rank_pattern": keys})
    modules = [
        f"model.layers.{n}.{m}" for n in range(128) for m in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj")
    ]
    names = [f"base_model.model.{module}.lora_{half}.weight" for module in modules for half in "AB"]
    content = AdapterContent.build(config, [TensorEntry(name, "F32", (1, 1)) for name in names])
    assert [content.config.rank_for(module) for module in modules[:3]] == [8, 2, 4]
    assert content.config.rank_for(modules[-2]) == 1
