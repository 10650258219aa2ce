"""One tree of errors: documented as it is, with codes that are unique and survive the wire."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import errors
from hub.errors import HubError, IntegrityError, InvalidRequest, NotFound, Unavailable, error_classes, from_json

CLASSES = [cls for cls in error_classes() if cls.__module__ == errors.__name__]  # other modules may add their own


def documented():
    """Return class name -> parent's name, by the indentation of the tree in the module's text."""
    parents, stack = {}, []
    for line in errors.__doc__.splitlines():
        names = re.findall(r"\b[A-Z][A-Za-z]+\b", re.sub(r"\(.*", "", line))
        names = [name for name in names if hasattr(errors, name)]
        if not names or not re.match(r"[ │├└─]+[A-Z]", line):
            continue
        level = re.search(r"[A-Z]", line).start()
        stack = [(at, name) for at, name in stack if at < level]
        for name in names:
            parents[name] = stack[-1][1] if stack else None
        stack.append((level, names[0]))
    return parents


def test_the_tree_is_the_one_that_is_drawn():
    drawn = documented()
    # QuotaExceeded stands in brackets behind its parent, which the drawing's columns don't show.
    real = {cls.__name__: cls.__base__.__name__ for cls in CLASSES if cls not in (HubError, errors.QuotaExceeded)}
    assert drawn.pop("HubError") is None
    assert drawn == real


def test_drawn_statuses_and_exit_codes_are_the_real_ones():
    for name, status, exit_code in re.findall(r"([A-Z]\w+) +(\d{3}) +exit (\d)", errors.__doc__):
        cls = getattr(errors, name)
        assert (cls.status, cls.exit_code) == (int(status), int(exit_code)), name


def test_codes_are_unique_words():
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


def test_every_code_is_stated_by_its_own_class():
    assert [cls.__name__ for cls in CLASSES if "code" not in vars(cls)] == []


def test_exit_codes_are_the_documented_ones_by_branch():
    branches = {
        errors.InvalidRequest: 2, errors.NotFound: 3, errors.AuthError: 4, errors.Conflict: 5,
        errors.IntegrityError: 6, errors.Incompatible: 7, errors.NetworkError: 8, errors.Unavailable: 1,
    }  # fmt: skip
    for branch, exit_code in branches.items():
        assert {cls.exit_code for cls in error_classes(branch)} == {exit_code}
    assert HubError.exit_code == 1


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@given(
    message=st.text(), details=st.dictionaries(st.sampled_from(["offset", "which", "code"]), st.integers() | st.text())
)
def test_an_error_comes_back_over_the_wire_as_itself(cls, message, details):
    sent = cls(message, **details)
    received = from_json(cls.status, json.loads(json.dumps(sent.to_json())))
    assert (type(received), received.message, received.details) == (cls, message, details)


@pytest.mark.parametrize(
    ("status", "cls"),
    [(400, InvalidRequest), (401, errors.Unauthenticated), (403, errors.Forbidden), (404, NotFound),
     (409, errors.Conflict), (412, errors.PreconditionFailed), (413, errors.TooLarge), (418, InvalidRequest),
     (422, IntegrityError), (429, errors.TooManyRequests), (500, Unavailable), (502, Unavailable),
     (507, errors.StorageFull)],
)  # fmt: skip
@pytest.mark.parametrize("payload", [None, "<html>", {}, {"error": "text"}, {"error": {}}, {"error": {"message": 5}}])
def test_an_answer_that_a_proxy_made_up_becomes_the_class_of_its_status(status, cls, payload):
    received = from_json(status, payload)
    assert type(received) is cls
    assert str(status) in received.message


def test_an_unknown_code_becomes_the_class_of_its_status_and_keeps_its_words():
    payload = {"error": {"code": "of_tomorrow", "message": "Words.", "details": {"a": 1}}}
    received = from_json(404, payload)
    assert (type(received), received.message, received.details) == (NotFound, "Words.", {"a": 1})


NAMES = st.sampled_from(["error", "code", "message", "details"])
ANSWERS = st.recursive(
    st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=8
)


@given(st.integers(100, 599), ANSWERS)
def test_any_answer_becomes_some_error(status, payload):
    assert isinstance(from_json(status, payload), HubError)
