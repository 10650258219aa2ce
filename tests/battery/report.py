"""What a run of the battery found, as a page: equal, refused and wrong by architecture, field, type and operation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from tests.battery.running import Outcome

VERDICTS = ("equal", "refused", "wrong", "crashed")
_SHOWN = 40


def page(outcomes: Sequence[Outcome], first: int) -> str:
    """Return the page in Markdown.  first: the seed of the first case."""
    answered = [outcome for outcome in outcomes if outcome.verdict != "none"]
    lines = [
        "# Fidelity",
        "",
        "`make battery` draws adapters, bases, types and operations from seeds and asks PEFT and lorahub the same.",
        f"This page is its last run: {len(outcomes):,} cases from seed {first} on, with {_versions()}.",
        f"To {len(outcomes) - len(answered):,} of them PEFT itself has no answer, and they don't count.",
        "",
        *_verdicts(answered),
        "",
        *_MEANINGS,
        "",
        *_table("Architecture and head", answered, lambda outcome: [outcome.case.base]),
        *_table("Field", answered, lambda outcome: list(outcome.case.fields)),
        *_table("Type of the base", answered, lambda outcome: [outcome.case.type]),
        *_table("Operation", answered, lambda outcome: [outcome.case.operation]),
        *_reasons("Refusals", [outcome for outcome in answered if outcome.verdict == "refused"]),
        *_failures([outcome for outcome in answered if outcome.verdict in ("wrong", "crashed")]),
    ]
    return "\n".join(lines).rstrip() + "\n"


_MEANINGS = (
    "*Equal*: the logits are PEFT's by norm (1e-4 in float32 and on 4-bit bases, else what the bits allow), and so",
    "is what the operation gave; `lorahub check` had said ok, and the summary is PEFT's line. *Refused*: an error that",
    "names the reason; if it is one of loading, check had found it, too. *Wrong* is anything else that was computed, a",
    "check that said otherwise than load, or another summary; *crashed*, an error that isn't lorahub's.",
)


def _versions() -> str:
    names = ("peft", "transformers", "torch", "bitsandbytes")
    return ", ".join(f"{name} {version(name).partition('+')[0]}" for name in names)


def _verdicts(answered: Sequence[Outcome]) -> list[str]:
    counts = Counter(outcome.verdict for outcome in answered)
    bits = sum(outcome.bits for outcome in answered)
    said = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS)
    return [f"**{len(answered):,} compared: {said}.** {bits:,} were equal to the last bit."]


def _table(title: str, outcomes: Iterable[Outcome], names: Callable[[Outcome], list[str]]) -> list[str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for name in names(outcome):
            counts[name][outcome.verdict] += 1
    rows = [
        f"| {name} | {' | '.join(str(found[verdict]) for verdict in VERDICTS)} |"
        for name, found in sorted(counts.items())
    ]
    return [f"## {title}", "", "| | equal | refused | wrong | crashed |", "|---|---:|---:|---:|---:|", *rows, ""]


def _reasons(title: str, outcomes: Sequence[Outcome]) -> list[str]:
    counts = Counter(_reason(outcome.detail) for outcome in outcomes)
    return [f"## {title}", "", *(f"- {count:,} × {reason}" for reason, count in counts.most_common(_SHOWN)), ""]


def _reason(detail: str) -> str:
    """Return a refusal without the names of the one module or folder that it is about."""
    kinds = {
        "only plain low-rank updates add up": "a weighted sum of what doesn't add (DoRA, whole modules, tokens)",
        "target_parameters": "`target_parameters`: PEFT adapts the experts of a mixture as bare parameters",
        "bare parameters": "`target_parameters`: PEFT adapts the experts of a mixture as bare parameters",
        "ensure_weight_tying": "`ensure_weight_tying` with an adapted embedding or output layer",
        "no bias in this architecture": "saving a merge with a bias that the architecture lacks (`lora_bias`)",
        "DoRA of a convolution": "DoRA of a convolution",
        "convolution in groups": "merging into a convolution in groups",
        "stored whole, but it is 4-bit": "a whole module that is 4-bit in this base",
        "expert, which sees tokens": "rows of different adapters in the experts of a mixture",
    }
    return next((kind for mark, kind in kinds.items() if mark in detail), detail)


def _failures(outcomes: Sequence[Outcome]) -> list[str]:
    if not outcomes:
        return ["## Wrong", "", "None."]
    rows = [
        f"- seed {outcome.case.seed}: {outcome.case.base}, {outcome.case.type}, {outcome.case.operation}: "
        f"{outcome.detail} ({', '.join(outcome.case.fields)})"
        for outcome in outcomes[:_SHOWN]
    ]
    return ["## Wrong", "", *rows]
