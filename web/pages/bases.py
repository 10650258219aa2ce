"""Bases as a tree: a base, and below it the quantized and renamed copies of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.registry.values import Base


@dataclass(frozen=True, slots=True)
class BaseNode:
    base: Base
    children: tuple[BaseNode, ...]


def base_tree(bases: Sequence[Base]) -> tuple[BaseNode, ...]:
    """Return the bases in the order they came, each copy below its parent if that one is among them."""
    known = {base.id for base in bases}
    below: dict[str, list[Base]] = {}
    roots = []
    for base in bases:
        if base.parent in known and base.parent != base.id:
            below.setdefault(str(base.parent), []).append(base)
        else:
            roots.append(base)
    return tuple(_node(base, below, frozenset()) for base in roots)


def _node(base: Base, below: dict[str, list[Base]], above: frozenset[str]) -> BaseNode:
    path = above | {base.id}
    return BaseNode(base, tuple(_node(child, below, path) for child in below.get(base.id, []) if child.id not in path))
