"""Does this adapter fit this base?  Answered from headers alone, before any weights move.

report = check(manifest, BaseSpec.from_folder("./llama"))
report.ok            # False: an error was found
print(report)        # at most 15 lines
report.raise_if_bad()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hub.adapter.content import AdapterContent, find_faults
from hub.adapter.weight_scan import WeightReport
from hub.base.numbers import differing
from hub.base.spec import BaseMatch, BaseSpec, compare_identity
from hub.errors import Incompatible, Unsupported
from hub.fit.shapes import Misfit, find_misfits, find_untrained
from hub.manifest import BaseIdentity, Manifest

Level = Literal["ok", "warning", "error"]
MAX_LINES = 14
_SHOWN = 3
_MARKS: Mapping[Level, str] = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    code: whole, architecture, modules, untrained, shapes, vocabulary, rank, content, base, unsupported, weights, zero.
    which: the modules, tensors or fields that are meant, all of them.  next_step: what to do; empty if ok.
    """

    level: Level
    code: str
    what: str
    which: tuple[str, ...] = ()
    next_step: str = ""

    def line(self) -> str:
        """Return it as one line: what, the first few of which, then a count, then the next step."""
        shown = ", ".join(self.which[:_SHOWN])
        rest = len(self.which) - _SHOWN
        names = (f": {shown}" if shown else "") + (f", and {rest:,} more" if rest > 0 else "")
        return f"{self.what}{names}." + (f" {self.next_step}" if self.next_step else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "code": self.code,
            "what": self.what,
            "which": list(self.which),
            "next_step": self.next_step,
        }


@dataclass(frozen=True, slots=True)
class CompatReport:
    """Every finding, the worst first."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing forbids to load the adapter.  Warnings don't."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def find(self, code: str) -> Finding | None:
        """Return the finding of that code, or None."""
        return next((finding for finding in self.findings if finding.code == code), None)

    def raise_if_bad(self) -> None:
        """Raise Unsupported if a field is the only obstacle, Incompatible for any other error."""
        if self.ok:
            return
        kind = Unsupported if all(finding.code == "unsupported" for finding in self.errors) else Incompatible
        lines = [finding.line() for finding in self.errors][: MAX_LINES - 2]
        raise kind("\n".join(["The adapter does not fit this base.", *lines]), findings=self.to_json()["findings"])

    def lines(self) -> list[str]:
        """Return the report as fewer than 15 lines, the verdict first."""
        verdict = "The adapter fits this base." if self.ok else "The adapter does not fit this base."
        return [verdict, *(f"{_MARKS[finding.level]} {finding.line()}" for finding in self.findings)][:MAX_LINES]

    def to_json(self) -> dict[str, Any]:
        findings = [_shortened(finding) for finding in self.findings]
        return {"ok": self.ok, "findings": findings}

    def __str__(self) -> str:
        return "\n".join(self.lines())


def check(
    adapter: Manifest | AdapterContent,
    base: BaseSpec,
    weights: WeightReport | None = None,
    *,
    strict: bool = True,
    source: str = "<path>",
) -> CompatReport:
    """Return all findings about an adapter on a base.

    weights: what a scan of the adapter's weights found, where they are at hand.
    strict: a base with other weights is an error; otherwise a warning.  source: how to name the adapter to PEFT.
    Raises InvalidAdapter if the manifest describes no LoRA adapter at all.
    """
    if isinstance(adapter, Manifest):
        content, recorded = AdapterContent.from_manifest(adapter), adapter.base
    else:
        content = adapter
        recorded = BaseIdentity(id=content.config.base_model, revision=content.config.base_revision)
    findings = [
        *_check_unsupported(content, source),
        *_check_unknown(content),
        *_check_content(content),
        *_check_whole(base),
        *_check_modules(content, base.loaded or base),
        check_identity(recorded, base, strict),
        *_check_weights(weights),
    ]
    order = {"error": 0, "warning": 1, "ok": 2}
    return CompatReport(tuple(sorted(findings, key=lambda finding: order[finding.level])))


def _check_unsupported(content: AdapterContent, source: str) -> Iterator[Finding]:
    fields = content.config.unsupported()
    if fields:
        which = tuple(f"{field.name} ({field.why})" for field in fields)
        step = f"Use PEFT: PeftModel.from_pretrained({source})."
        yield Finding("error", "unsupported", "lorahub does not compute exactly what the config asks for", which, step)


def _check_unknown(content: AdapterContent) -> Iterator[Finding]:
    fields = content.config.unknown()
    if fields:
        step = "A newer PEFT may have written them; lorahub computes without them, as PEFT does."
        yield Finding("warning", "unknown", "The config has fields that lorahub does not know", fields, step)


def _check_content(content: AdapterContent) -> Iterator[Finding]:
    faults = find_faults(content)
    ranks = tuple(str(fault) for fault in faults if fault.code == "rank")
    others = tuple(str(fault) for fault in faults if fault.code != "rank")
    step = "Save the adapter again with PEFT."
    if ranks:
        yield Finding("error", "rank", "The config's ranks are not those of the weights", ranks, step)
    if others:
        yield Finding("error", "content", "Config and weights contradict each other", others, step)


def _check_whole(base: BaseSpec) -> Iterator[Finding]:
    if base.missing:
        what = f"The base's files lack {len(base.missing):,} of its parameters, which would be random"
        step = "Fetch the base again, or correct `architectures` in its config.json."
        yield Finding("error", "whole", what, base.missing, step)


def _check_modules(content: AdapterContent, base: BaseSpec) -> Iterator[Finding]:
    content = content.placed(base.modules, base.rename)
    misfits = find_misfits(content, base)
    missing = [misfit for misfit in misfits if misfit.code == "modules"]
    modules = {part.module for _, part in content.used()}
    updated = {part.module for part in content.parts if part.kind in {"lora_A", "embedding_A"}}
    # Of an unknown architecture, the loaded model may call its modules otherwise than the files do.
    level: Level = "warning" if base.names_from_files else "error"
    if missing and {misfit.module for misfit in missing} >= (updated or modules):
        yield _other_architecture(missing, base, level)
        return
    yield Finding("ok", "architecture", f"The base is a {_architecture(base)} with the adapter's modules")
    for code, describe, step in _MISFIT_TEXTS:
        which = tuple(_misfit_text(misfit) for misfit in misfits if misfit.code == code)
        if which:
            yield Finding(
                level if code == "modules" else "error", code, describe(len(which), len(modules)), which, step
            )
    if not missing:
        yield Finding("ok", "modules", f"All {len(modules):,} modules of the adapter are in the base")
    untrained = tuple(find_untrained(content, base))
    if untrained:
        what = f"The config names {len(untrained):,} modules of this base that the adapter has no weights for"
        yield Finding(level, "untrained", what, untrained, "It was trained on another base; name that one.")


def _other_architecture(missing: list[Misfit], base: BaseSpec, level: Level) -> Finding:
    which = tuple(misfit.module for misfit in missing)
    has = ", ".join(list(base.modules)[:2])
    step = f"The base has e.g. {has}. Name the base that the adapter was trained on."
    return Finding(level, "architecture", f"No module of the adapter is in this {_architecture(base)}", which, step)


def _architecture(base: BaseSpec) -> str:
    return base.architecture or f"{base.model_type or 'unknown'} model"


def _misfit_text(misfit: Misfit) -> str:
    return f"{misfit.module} ({misfit.detail})" if misfit.detail else misfit.module


_MISFIT_TEXTS: tuple[tuple[str, Callable[[int, int], str], str], ...] = (
    (
        "modules",
        lambda count, total: f"{count:,} of the adapter's {total:,} modules {_are(count)} not in the base",
        "Name the base that the adapter was trained on.",
    ),
    (
        "shapes",
        lambda count, _: f"{count:,} {_weights_have(count)} other shapes than the base's modules",
        "The base is of another size; name the one that the adapter was trained on.",
    ),
    (
        "vocabulary",
        lambda count, _: f"{count:,} {_weights_have(count)} another vocabulary's size",
        "Resize the base's embeddings to the adapter's tokenizer, or name the base that it was trained on.",
    ),
    (
        "head",
        lambda _, __: "The adapter stores a task's head whole, and this base is without one",
        "Load the base with that head, e.g. by AutoModelForSequenceClassification, and give hub.load the model.",
    ),
    (
        "unsupported",
        lambda count, _: f"{count:,} of the adapter's modules {_are(count)} of a kind that lorahub does not adapt",
        "Use PEFT: PeftModel.from_pretrained(<path>).",
    ),
)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _weights_have(count: int) -> str:
    return "weight has" if count == 1 else "weights have"


def check_identity(recorded: BaseIdentity, base: BaseSpec, strict: bool) -> Finding:
    """Return whether `base` is the recorded one, as the finding `base`.  strict: other weights are an error."""
    match = compare_identity(recorded, base)
    level: Level = "error" if strict else "warning"
    name = recorded.id or "the base that it was trained on"
    step = f"Load it on {name}, or pass strict=False to try it anyway."
    if match is BaseMatch.SAME_WEIGHTS:
        return Finding("ok", "base", "The base has the weights that the adapter was trained on")
    if match is BaseMatch.COPY:
        return Finding("ok", "base", f"The base is a copy of {name} in another format")
    if match is BaseMatch.OTHER_FUNCTION:
        what = f"The base has the weights of {name}, and its config.json computes something else of them"
        return Finding(level, "base", what, tuple(differing(recorded.config, base.identity().config)), step)
    if match is BaseMatch.OTHER_WEIGHTS:
        what = f"The base has the shapes of {name}, but other weights: a fine-tune, a merge, or another model"
        return Finding(level, "base", what, (), step)
    if match is BaseMatch.OTHER_MODEL:
        return Finding(level, "base", f"The base is another model than {name}", (), step)
    if recorded.id and base.id and _last(recorded.id) != _last(base.id):
        what = f"The adapter says it was trained on {recorded.id}, and this base is called {base.id}"
        return Finding("warning", "base", what, (), "Whether they are one model is not recorded; compare the answers.")
    what = f"Which weights the adapter was trained on is not recorded (it names {recorded.id or 'no base'})"
    return Finding("ok", "base", what)


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def _check_weights(weights: WeightReport | None) -> Iterator[Finding]:
    if weights is None:
        return
    if weights.nonfinite:
        what, step = (
            "Weights hold NaN or infinity",
            "The training diverged; train again, or push an earlier checkpoint.",
        )
        yield Finding("error", "weights", what, weights.nonfinite, step)
    if weights.zero_modules:
        every = len(weights.zero_modules) == weights.modules
        what = "All updates are zero: the adapter does nothing" if every else "Updates are zero, as if never trained"
        yield Finding("warning", "zero", what, weights.zero_modules, "Check that the training reached these modules.")


def _shortened(finding: Finding) -> dict[str, Any]:
    payload = finding.to_json()
    payload["which"], payload["count"] = payload["which"][:20], len(finding.which)
    return payload
