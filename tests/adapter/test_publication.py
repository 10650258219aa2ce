"""What is said of a version besides its files, parsed once."""

import pytest

from hub.adapter.publication import MAX_MESSAGE_LENGTH, MAX_PARENTS, Publication
from hub.errors import InvalidRef, InvalidRequest
from hub.refs import AdapterRef


def test_refs_may_be_texts():
    said = Publication.parse(
        message="Second round", trained_from=["task/qa@v1"], merged_from=(AdapterRef.parse("a/b"),)
    )
    assert said == Publication(
        message="Second round", trained_from=(AdapterRef.parse("task/qa@v1"),), merged_from=(AdapterRef.parse("a/b"),)
    )


def test_a_parent_that_is_named_twice_counts_once():
    said = Publication.parse(trained_from=["task/qa@v1", "hf://task/qa@v1"], merged_from=["task/qa@v1"])
    ref = AdapterRef.parse("task/qa@v1")
    assert said.lineage == (("trained-from", ref), ("merged-from", ref))


def test_what_the_api_takes_can_be_parsed_again():
    said = Publication.parse(task="qa", alias="prod", private=False, trained_from=["task/qa@v1"])
    assert Publication.parse(**said.to_json()) == said
    assert "private" not in Publication().to_json()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"message": "x" * (MAX_MESSAGE_LENGTH + 1)}, InvalidRequest),
        ({"task": "   "}, InvalidRequest),
        ({"task": "x" * 97}, InvalidRequest),
        ({"alias": "latest"}, InvalidRef),
        ({"alias": "v3"}, InvalidRef),
        ({"trained_from": ["task"]}, InvalidRef),
        ({"trained_from": ["task/qa"] * MAX_PARENTS, "merged_from": ["task/qa"]}, InvalidRequest),
        ({"tusk": "qa"}, TypeError),
    ],
)
def test_what_cannot_be_said(said, error):
    with pytest.raises(error):
        Publication.parse(**said)
