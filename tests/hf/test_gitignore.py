"""`.gitignore` rules decide as git's manual says."""

from __future__ import annotations

import pytest

from hub.web.hf.gitignore import IgnoreRules


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        ("*.log", "a.log", True),
        ("*.log", "deep/er/a.log", True),
        ("*.log", "a.log.txt", False),
        ("/a.txt", "a.txt", True),
        ("/a.txt", "deep/a.txt", False),
        ("checkpoint-*/", "checkpoint-10/weights.safetensors", True),
        ("checkpoint-*/", "checkpoint-10", False),
        ("docs/*.md", "docs/a.md", True),
        ("docs/*.md", "docs/deep/a.md", False),
        ("docs/**", "docs/deep/a.md", True),
        ("**/tmp", "a/b/tmp/file", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("*.txt\n!keep.txt", "keep.txt", False),
        ("# *.txt\n\n", "a.txt", False),
        ("\\#odd", "#odd", True),
        ("v[0-9].txt", "v1.txt", True),
    ],
)
def test_rules_decide_as_git_does(rules: str, path: str, ignored: bool) -> None:
    assert IgnoreRules.parse(rules).ignores(path) is ignored


def test_a_hostile_pattern_is_decided_at_once() -> None:
    rules = IgnoreRules.parse(("*a" * 60 + "b\n") * 400 + "**/" * 60 + "x")
    assert rules.ignores("a" * 190) is False
