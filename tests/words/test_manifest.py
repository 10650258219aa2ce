"""A manifest has one canonical form: RFC 8785's own vectors, and a round trip for anything it may hold."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.errors import HubError, InvalidManifest, UnsafeFile
from hub.manifest import (
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    BaseIdentity,
    FileEntry,
    Manifest,
    TensorEntry,
    canonical_json,
    check_path,
    check_paths,
)

SHA = "0123456789abcdef" * 4

RFC_8785_NUMBERS = [
    # IEEE 754 bits, and the text of RFC 8785, appendix B.
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), RFC_8785_NUMBERS)
def test_numbers_are_written_as_the_rfc_writes_them(bits, text):
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(value).decode() == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_number_is_refused(value):
    with pytest.raises(InvalidManifest):
        canonical_json({"lora_dropout": value})


def test_the_rfcs_example_of_an_object():
    # RFC 8785, section 3.2.2: the input's values, and the output.
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(value) == expected.encode()


def test_the_rfcs_example_of_sorting():
    # RFC 8785, section 3.2.3: keys are sorted by UTF-16 code units.
    value = {
        "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
        "\U0001f600": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis",
    }  # fmt: skip
    written = list(json.loads(canonical_json(value)).values())
    assert written == [
        "Carriage Return", "One", "Control", "Latin Small Letter O With Diaeresis", "Euro Sign", "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]  # fmt: skip


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150)
@given(JSON)
def test_canonical_bytes_are_read_back_and_written_again_as_they_were(value):
    written = canonical_json(value)
    assert canonical_json(json.loads(written)) == written
    # To JSON, whole numbers are doubles like any other.
    assert json.loads(written, parse_int=float) == json.loads(json.dumps(value), parse_int=float)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_value(value):
    assert float(canonical_json(value)) == value


@pytest.mark.parametrize(
    "value", [2**53 + 1, -(2**60) - 1, 2**80, 10**400, {1, 2}, b"x", "\ud800", {"\udfff": 1}, object()]
)
def test_what_json_can_not_say_exactly_is_refused(value):
    with pytest.raises(InvalidManifest):
        canonical_json([value])


PATHS = st.lists(st.sampled_from(["a.json", "b/c.txt", "b/d.md", "README.md", "x/y/z.json"]), unique=True)
MANIFESTS = st.builds(
    lambda paths, config, tensors, base: Manifest(
        tuple(FileEntry(path, len(path), SHA) for path in paths), config, tuple(tensors), base
    ),
    PATHS,
    st.dictionaries(st.text(max_size=8), JSON, max_size=4),
    st.lists(
        st.builds(
            TensorEntry,
            st.text(min_size=1, max_size=9),
            st.sampled_from(["F32", "BF16"]),
            st.tuples(st.integers(0, 99)),
        ),
        max_size=4,
    ),
    st.builds(BaseIdentity, *[st.none() | st.text(max_size=9)] * 5),
)


@settings(max_examples=80, deadline=None)
@given(MANIFESTS, st.randoms())
def test_a_manifest_is_what_its_bytes_say_whatever_the_order_it_was_made_in(manifest, random):
    shuffled = replace(
        manifest,
        files=tuple(random.sample(manifest.files, len(manifest.files))),
        tensors=tuple(random.sample(manifest.tensors, len(manifest.tensors))),
    )
    assert shuffled.digest == manifest.digest
    assert manifest.canonical_bytes() == canonical_json(manifest.to_json())
    again = Manifest.parse(manifest.canonical_bytes())
    assert again.canonical_bytes() == manifest.canonical_bytes()
    assert again.digest == hashlib.sha256(manifest.canonical_bytes()).hexdigest()
    assert again.commit == again.digest[:40]
    assert again.size_bytes == sum(entry.size for entry in manifest.files)


def sound(**changes):
    payload = {
        "schema": 1,
        "files": [{"path": "a.json", "size": 1, "sha256": SHA}],
        "config": {},
        "tensors": [{"name": "t", "dtype": "F32", "shape": [1]}],
        "base": {"id": "x"},
    }
    return payload | changes


def test_a_sound_manifest_is_read():
    manifest = Manifest.from_json(sound())
    assert manifest.file("a.json") == FileEntry("a.json", 1, SHA)
    assert manifest.file("b.json") is None
    assert manifest.base == BaseIdentity(id="x")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"schema": None},
        {"files": {}},
        {"files": [1]},
        {"files": [{"path": "a", "size": 1}]},
        {"files": [{"path": "a", "size": 1, "sha256": SHA, "more": 1}]},
        {"files": [{"path": "a", "size": -1, "sha256": SHA}]},
        {"files": [{"path": "a", "size": True, "sha256": SHA}]},
        {"files": [{"path": "a", "size": 1.0, "sha256": SHA}]},
        {"files": [{"path": "a", "size": 1, "sha256": SHA.upper()}]},
        {"files": [{"path": "a", "size": 1, "sha256": SHA[:-1]}]},
        {"files": [{"path": 5, "size": 1, "sha256": SHA}]},
        {"config": []},
        {"config": None},
        {"tensors": None},
        {"tensors": [{"name": "t", "dtype": "F32", "shape": [-1]}]},
        {"tensors": [{"name": "t", "dtype": "F32", "shape": "1"}]},
        {"tensors": [{"name": "t", "dtype": 1, "shape": []}]},
        {"base": []},
        {"base": {"id": 1}},
        {"base": {"who": "x"}},
        {"base": {"sketch": "x" * 70_000}},
    ],
)
def test_a_malformed_manifest_is_refused(changes):
    with pytest.raises(InvalidManifest):
        Manifest.from_json(sound(**changes))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b"\xff", b"[" * 100_000, b" " * (MAX_MANIFEST_BYTES + 1)])
def test_bytes_that_are_no_manifest_are_refused(data):
    with pytest.raises(InvalidManifest):
        Manifest.parse(data)


@pytest.mark.parametrize(
    "path",
    ["", "/a", "../a", "a/../b", "a/./b", "a//b", "a/", "./a", ".", "..", "a\\b", "C:/a", "a:b", "a\x00b", "a\nb",
     "\x7f", ".git/config", "a/.GIT/x", "con", "CON.txt", "a/aux.json", "COM1", "lpt9.md", "nul", "a.", "a ", "a./b",
     "x" * 201, "é" * 101, "\ud800"],
)  # fmt: skip
def test_a_path_that_is_unsafe_anywhere_is_refused_everywhere(path):
    with pytest.raises(UnsafeFile):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["a", "a/b.txt", "README.md", ".gitattributes", "ünïcode.json", "a b.txt", "console.txt", "x" * 200]
)
def test_a_plain_path_is_taken(path):
    check_path(path)
    manifest = Manifest.from_json(sound(files=[{"path": path, "size": 1, "sha256": SHA}]))
    assert [entry.path for entry in manifest.files] == [path]


@pytest.mark.parametrize("paths", [["a", "A"], ["é", "e\u0301"], ["ß", "SS"], ["a", "a/b"], ["A", "a/b/c"], ["x"] * 2])
def test_two_paths_that_are_one_on_some_system_are_refused(paths):
    with pytest.raises(UnsafeFile):
        check_paths(paths)


def test_too_many_files_are_refused():
    check_paths([f"{n}.txt" for n in range(MAX_FILES)])
    with pytest.raises(UnsafeFile):
        check_paths([f"{n}.txt" for n in range(MAX_FILES + 1)])


NEARLY_MANIFESTS = st.dictionaries(st.sampled_from(sorted(sound())), JSON, max_size=2).map(lambda more: sound(**more))
"""One field or two are anything, the others are sound: some of these are read."""


@given(st.binary(max_size=200) | (JSON | NEARLY_MANIFESTS).map(lambda value: json.dumps(value).encode()))
@example(json.dumps(sound()).encode())
def test_any_bytes_are_a_manifest_or_are_refused(data):
    try:
        manifest = Manifest.parse(data)
    except HubError:
        return
    said = json.loads(data)
    assert manifest.config == said["config"]
    assert (len(manifest.files), len(manifest.tensors)) == (len(said["files"]), len(said["tensors"]))
    assert Manifest.parse(manifest.canonical_bytes()).digest == manifest.digest
