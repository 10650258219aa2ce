"""Warnings for stock clients: the header `X-HF-Warning`, which `hf` and PEFT print once per topic."""

from __future__ import annotations

from flask import Response

from hub.refs import AdapterName
from hub.registry.values import Tree, Yanked

from .errors import warn


def warn_of_tree(response: Response, tree: Tree) -> Response:
    """Warn that this revision is a draft or yanked, or that its adapter is deprecated."""
    old = tree.adapter.deprecated
    if old is not None:
        successor = f" Use {old.successor} instead." if old.successor else ""
        text = f"{tree.adapter.name} is deprecated: {old.reason.rstrip('.')}.{successor}"
        warn(response, f"deprecated {tree.adapter.name}", text)
    if tree.commit.problem:
        text = f"This is a draft of {tree.adapter.name}, no version: {tree.commit.problem}"
        warn(response, f"draft {tree.commit.id}", text)
    return warn_of(response, tree.adapter.name, tree.commit.version, tree.yanked)


def warn_of(response: Response, name: AdapterName, version: int | None, yanked: Yanked | None) -> Response:
    """Warn that a version was yanked, and why.  The topic names the version, so each gets its own warning."""
    if yanked is None or version is None:
        return response
    text = f"{name} v{version} was yanked: {yanked.reason.rstrip('.')}. See the other versions before you use it."
    return warn(response, f"yanked {name} v{version}", text)
