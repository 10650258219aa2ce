"""Names and refs: what is written is what is meant, everywhere, or is refused with the reason."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import InvalidRef
from hub.refs import MAX_ADAPTER_NAME_LENGTH, AdapterName, AdapterRef, parse_alias, parse_namespace, parse_selector

PARTS = st.from_regex(r"[a-z0-9][a-z0-9._]{0,20}[a-z0-9_]", fullmatch=True).filter(
    lambda p: ".." not in p and not p.endswith(".git")
)
SELECTORS = (
    st.integers(1, 999_999_999).map("v{}".format)
    | st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}(/[a-z0-9]+)?", fullmatch=True)
    | st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
)


@given(PARTS, PARTS, st.none() | SELECTORS)
def test_a_ref_is_what_it_prints_as(namespace, name, selector):
    text = f"{namespace}/{name}" + (f"@{selector}" if selector else "")
    ref = AdapterRef.parse(text)
    assert AdapterRef.parse(str(ref)) == ref
    assert AdapterRef.parse(f"hf://{text}") == ref
    assert (ref.adapter.namespace, ref.adapter.name) == (namespace, name)
    assert str(ref) == (text if selector != "latest" else f"{namespace}/{name}")


@given(PARTS, PARTS, SELECTORS)
def test_a_selector_is_a_version_a_digest_or_an_alias_and_only_one(namespace, name, selector):
    ref = AdapterRef.parse(f"{namespace}/{name}@{selector}")
    assert [ref.version is not None, ref.digest is not None, ref.alias is not None].count(True) == 1
    assert ref.is_immutable == (ref.alias is None)


def test_without_a_selector_the_latest_is_meant():
    ref = AdapterRef.parse("task/qa")
    assert (ref.selector, ref.alias, str(ref)) == ("latest", "latest", "task/qa")


@pytest.mark.parametrize(
    "text",
    ["", "qa", "/qa", "task/", "task//qa", "a/b/c", "Task/qa", "task/Qa", "task/qa qa", "task/../qa", "task/..", "-a/b",
     ".a/b", "a/.b", "_a/b", "a/b--c", "a/b..c", "a/b.", "a/b-", "a/b.git", "a/" + "b" * 95, "ä/b", "a/b\nc", "a\x00/b",
     "a\\b", "a/b%2F", "hf://", "http://host/a/b"],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_the_reason(text):
    with pytest.raises(InvalidRef) as caught:
        AdapterRef.parse(text)
    assert len(caught.value.message) < 250


@pytest.mark.parametrize(
    "selector",
    ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "-x", "a..b", "a/../b", "a//b", "/a", "a/", "a b",
     "a@b", "a" * 97, "a\nb", "ü", "a?b", "a#b", "a%2fb"],
)  # fmt: skip
def test_what_selects_nothing_is_refused(selector):
    with pytest.raises(InvalidRef):
        AdapterRef.parse(f"task/qa@{selector}")


@pytest.mark.parametrize(
    "text", ["v3", "v01", "v0", "v1.0", "latest", "LATEST", "main", "HEAD", "a" * 40, "sha256:" + "a" * 64]
)
def test_an_alias_can_not_read_as_something_else(text):
    with pytest.raises(InvalidRef):
        parse_alias(text)


@pytest.mark.parametrize("text", ["prod", "rel/1.0", "vnext", "2024-01", "A.b_c-d", "version3"])
def test_a_word_is_an_alias(text):
    assert parse_alias(text) == parse_selector(text) == text


def test_the_limit_is_of_the_whole_name():
    longest = "a/" + "b" * (MAX_ADAPTER_NAME_LENGTH - 2)
    assert str(AdapterName.parse(longest)) == longest
    with pytest.raises(InvalidRef, match="characters"):
        AdapterName.parse(longest + "b")


def test_a_name_gives_the_ref_of_any_version():
    name = AdapterName.parse("task/qa")
    assert str(name.at(3)) == str(name.at("v3")) == "task/qa@v3"
    assert str(name.at("prod")) == "task/qa@prod"
    with pytest.raises(InvalidRef):
        name.at("no such thing")


def test_namespaces_follow_the_same_rules():
    assert parse_namespace("task") == "task"
    for text in ("", "a/b", "A", "a--b", "a."):
        with pytest.raises(InvalidRef):
            parse_namespace(text)


@given(st.text(max_size=120))
def test_any_text_is_a_ref_or_is_refused(text):
    with suppress(InvalidRef):
        ref = AdapterRef.parse(text)
        assert AdapterRef.parse(str(ref)) == ref
