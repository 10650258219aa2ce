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
    """Return the bases in the order they came, each copy below its parent if that one is among them.

    Every base stands in the tree once, also those that name each other in a circle.
    """
    known = {base.id for base in bases}
    below: dict[str, list[Base]] = {}
    for base in bases:
        if base.parent in known:
            below.setdefault(str(base.parent), []).append(base)
    placed: set[str] = set()
    roots = [base for base in bases if base.parent not in known]
    nodes = [_node(base, below, placed) for base in roots]
    nodes += [_node(base, below, placed) for base in bases if base.id not in placed]
    return tuple(nodes)


def _node(base: Base, below: dict[str, list[Base]], placed: set[str]) -> BaseNode:
    placed.add(base.id)
    return BaseNode(
        base, tuple(_node(child, below, placed) for child in below.get(base.id, []) if child.id not in placed)
    )
