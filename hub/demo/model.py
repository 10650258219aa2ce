"""The demo's steps with a model: load and switch, answer what was held out, merge and unmerge."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.demo.console import DemoConsole, duration_text
from hub.demo.held_out import Score, answer, encode_prompts, score
from hub.demo.tasks import QA, SENTIMENT, Task
from hub.errors import Incompatible
from hub.training.examples import Example

if TYPE_CHECKING:
    import torch

    from hub.runtime import Model

V1, V2, LABELS = f"{QA.name}@v1", f"{QA.name}@v2", f"{SENTIMENT.name}@v1"
COLUMNS: tuple[tuple[str, str | None], ...] = (
    ("bare base", None),
    ("qa@v1", V1),
    ("qa@v2", V2),
    ("sentiment@v1", LABELS),
)
LEAST_WITH_ADAPTER = 0.9
MOST_WITHOUT = 0.1
LEAST_KEPT_ANSWERS = 0.9

_NEW_TOKENS = 20
_SHOWN_QUESTIONS = 4
_SHOWN_TEXTS = 3

Answers = dict[tuple[str | None, str], str]
"""(adapter's ref or None for the bare base, prompt) -> answer."""


def show_loading(console: DemoConsole, base: str) -> Model:
    """Load the base in 4 bits with the newest adapter, add the others, switch between all; show the times."""
    import hub

    console.code(f'model = hub.load(base, "{V2}")')
    model, seconds = _timed(lambda: hub.load(base, V2))
    rows = [("load the base in NF4, with " + V2, duration_text(seconds))]
    for ref in (V1, LABELS):
        console.code(f'model.add("{ref}")')
        _, seconds = _timed(lambda ref=ref: model.add(ref))  # type: ignore[misc]
        rows.append((f"add {ref}: fetch, verify, check, into a free slot", duration_text(seconds)))
    for chosen in (LABELS, V1, None, V2):
        console.code(f"model.use({chosen!r})")
        _, seconds = _timed(lambda chosen=chosen: model.use(chosen))  # type: ignore[misc]
        rows.append((f"switch to {chosen or 'the bare base'}", duration_text(seconds)))
    console.table(["measured", "time"], rows)
    return model


def show_answers(console: DemoConsole, model: Model, examples: Path) -> tuple[Answers, list[str]]:
    """Ask everyone the same held-out prompts; return the answers, and the claims that didn't hold."""
    questions, texts = QA.held_out(examples), SENTIMENT.held_out(examples)
    shown = [*questions[:_SHOWN_QUESTIONS], *texts[:_SHOWN_TEXTS]]
    asked = {None: [*questions, *texts], V1: [*questions, *shown], V2: [*questions, *shown], LABELS: [*texts, *shown]}
    answers: Answers = {}
    for name, ref in COLUMNS:
        model.use(ref)
        answers |= _ask(console, model, ref, list(dict.fromkeys(asked[ref])), name)
    header = ["held-out prompt", *(name for name, _ in COLUMNS)]
    rows = [[example.prompt, *(answers[ref, example.prompt] for _, ref in COLUMNS)] for example in shown]
    console.table(header, rows, widths=(27, 29, 20, 20, 12))
    return answers, _show_scores(console, answers, questions, texts)


def show_merging(console: DemoConsole, model: Model, examples: Path, answers: Answers) -> list[str]:
    """Merge each way, compare with the unmerged model, and unmerge; return the claims that didn't hold."""
    questions = QA.held_out(examples)
    model.use(None)
    bare = _logits(model, questions[:4])
    model.use(V2)
    adapted = _logits(model, questions[:4])

    console.code('print(model.merge("dequant"))')
    report = model.merge("dequant")
    console.lines(str(report).splitlines(), "  ")
    merged = _ask(console, model, V2, questions, "merged")
    wrong = _compare_merged(console, answers, merged, questions)

    console.code("model.unmerge()")
    model.unmerge()
    same_adapter = _is_same(adapted, _logits(model, questions[:4]))
    model.use(None)
    same_base = _is_same(bare, _logits(model, questions[:4]))
    console.line(
        f"  logits as before the merge, to the last bit: with the adapter {same_adapter}, bare base {same_base}"
    )
    if not (same_adapter and same_base):
        wrong.append("unmerge doesn't give back the very logits from before")
    model.use(V2)
    return wrong + _show_requant(console, model)


def _show_requant(console: DemoConsole, model: Model) -> list[str]:
    console.code('model.merge("requant")')
    try:
        report = model.merge("requant")
    except Incompatible as error:
        console.line(f"  refused: {error.message}")
        return []
    model.unmerge()
    return [f"requant was not refused; its retention is {report.retention:.2f}"]


def _show_scores(
    console: DemoConsole, answers: Answers, questions: Sequence[Example], texts: Sequence[Example]
) -> list[str]:
    """Print the share of well-formed answers of everyone; return the claims that didn't hold."""
    rows, wrong = [], []
    for task, asked, refs in ((QA, questions, (None, V1, V2)), (SENTIMENT, texts, (None, LABELS))):
        for ref in refs:
            found = score([answers[ref, example.prompt] for example in asked], asked, task.has_form)
            rows.append(_score_row(task, ref, found))
            wrong += _broken_claim(task, ref, found)
    console.table(["held out", "answered by", "right form", "share", "the expected answer"], rows)
    return wrong


def _score_row(task: Task, ref: str | None, found: Score) -> list[str]:
    return [
        f"{found.asked} for {task.name}: {task.form}",
        ref or "bare base",
        f"{found.formed} of {found.asked}",
        f"{found.share:.0%}",
        f"{found.right} of {found.asked}",
    ]


def _broken_claim(task: Task, ref: str | None, found: Score) -> list[str]:
    if ref is None and found.share > MOST_WITHOUT:
        return [f"the bare base gives {task.form} in {found.share:.0%} of answers, more than {MOST_WITHOUT:.0%}"]
    if ref is not None and found.share < LEAST_WITH_ADAPTER:
        return [f"{ref} gives {task.form} in {found.share:.0%} of answers, less than {LEAST_WITH_ADAPTER:.0%}"]
    return []


def _compare_merged(console: DemoConsole, before: Answers, merged: Answers, questions: Sequence[Example]) -> list[str]:
    kept = sum(merged[V2, example.prompt] == before[V2, example.prompt] for example in questions)
    formed = sum(QA.has_form(merged[V2, example.prompt]) for example in questions)
    total = len(questions)
    console.line(
        f"  merged: {kept} of {total} answers are the very same as unmerged; {formed} of {total} are {QA.form}"
    )
    enough = kept >= LEAST_KEPT_ANSWERS * total and formed >= LEAST_WITH_ADAPTER * total
    return [] if enough else [f"merged, the model keeps {kept} of {total} answers, {formed} in the right form"]


def _ask(console: DemoConsole, model: Model, ref: str | None, asked: Sequence[Example], name: str) -> Answers:
    began = time.perf_counter()

    def heard(done: int) -> None:
        console.progress(done, len(asked), f"answers by {name}, {duration_text(time.perf_counter() - began)}")

    found = answer(model, asked, _NEW_TOKENS, heard)
    return {(ref, example.prompt): text for example, text in zip(asked, found, strict=True)}


def _logits(model: Model, examples: Sequence[Example]) -> torch.Tensor:
    """Return the logits after some prompts: (rows, length, vocabulary)."""
    import torch

    with torch.inference_mode():
        logits: torch.Tensor = model(**encode_prompts(model, examples), use_cache=False).logits
    return logits


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch

    return torch.equal(one, other)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began
