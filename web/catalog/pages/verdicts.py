"""Which of the known bases a version fits, and why: judged by recorded fingerprints, without any weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hub.base.spec import BaseMatch, compare_identity
from hub.manifest import BaseIdentity
from hub.registry.values import Base

Verdict = Literal["fits", "declared", "unknown", "refused"]
MAX_ROWS = 12
_ORDER: dict[Verdict, int] = {"fits": 0, "declared": 1, "unknown": 2, "refused": 3}


@dataclass(frozen=True, slots=True)
class BaseVerdict:
    """One base and whether the version runs there.  reason: a whole sentence."""

    base: str
    verdict: Verdict
    reason: str


def judge_bases(recorded: BaseIdentity, declared: str | None, bases: Sequence[Base]) -> tuple[BaseVerdict, ...]:
    """Return a verdict for each base, those that fit first.

    recorded: what the version's manifest says of its base.  declared: the id of the base object it is bound to.
    """
    verdicts = [judge(recorded, declared, base) for base in bases]
    return tuple(sorted(verdicts, key=lambda row: (_ORDER[row.verdict], row.base != declared))[:MAX_ROWS])


def judge(recorded: BaseIdentity, declared: str | None, base: Base) -> BaseVerdict:
    """Return the verdict for one base: weights decide before shapes, shapes before names."""
    if recorded.weights and recorded.weights in base.weights:
        return BaseVerdict(base.id, "fits", "Trained on exactly these weights.")
    if declared and declared in {base.parent, *base.children} and base.id != declared:
        return BaseVerdict(base.id, "fits", f"A copy of {declared}, for which it was trained.")
    matches = set(_matches(recorded, base))
    if BaseMatch.OTHER_WEIGHTS in matches:
        return BaseVerdict(base.id, "refused", "Equal shapes, but other weights than it was trained on.")
    if BaseMatch.UNKNOWN not in matches:
        return BaseVerdict(base.id, "refused", "Another model: its tensors have other names or shapes.")
    verdict: Verdict = "declared" if base.id == declared else "unknown"
    if base.disputed:
        return BaseVerdict(base.id, verdict, "Publishers say different things of this base, so they judge nothing.")
    if recorded.shapes and recorded.shapes in base.shapes:
        return BaseVerdict(base.id, verdict, "Equal shapes; the weights have no mark in common: lorahub check tells.")
    if base.id == declared:
        return BaseVerdict(base.id, "declared", "Named by the adapter; no fingerprint was recorded.")
    return BaseVerdict(base.id, "unknown", "No fingerprints to compare: lorahub check tells.")


def _matches(recorded: BaseIdentity, base: Base) -> Iterator[BaseMatch]:
    """Yield how the recorded base relates to any copy of `base`.  Weights count only where the shapes agree."""
    agree = False
    for shapes in base.shapes or (None,):
        found = compare_identity(recorded, BaseIdentity(shapes=shapes, weights=recorded.weights))
        if found is BaseMatch.SAME_WEIGHTS:
            agree = True
        else:
            yield found
    if agree:
        same = BaseIdentity(shapes=recorded.shapes)
        yield from (compare_identity(recorded, replace(same, weights=weights)) for weights in base.weights or (None,))
