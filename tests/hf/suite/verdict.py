"""What a run of huggingface_hub's tests came to: passed, refused by design with the reason, failed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from tests.hf.environments import OWN
from tests.hf.suite.refused import NOT_RUN, REFUSED
from tests.hf.table import PAGE, page_with_table

START, END = "<!-- suite: written by `make test-hf-suite` -->", "<!-- end of suite -->"


@dataclass(frozen=True)
class Found:
    """passed, skipped: how many.  refused: reason -> tests.  failed: test -> what it said.  stale: unused rules."""

    passed: int
    skipped: int
    refused: dict[str, list[str]]
    failed: dict[str, str]
    stale: list[str]

    def summary(self) -> str:
        refused = sum(map(len, self.refused.values()))
        lines = [
            f"{self.passed} passed, {refused} refused by design, {len(self.failed)} failed, {self.skipped} skipped"
        ]
        lines += [f"FAILED {test}: {said}" for test, said in self.failed.items()]
        lines += [f"STALE {pattern}: refuses nothing" for pattern in self.stale]
        return "\n".join(lines)


def read(report: Path) -> Found:
    """Judge every test of pytest's XML report by the rules of refused.py."""
    passed, skipped = 0, 0
    refused: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('hf_suite.')}.{case.get('name', '')}"
        fault = next((part for part in case if part.tag in {"failure", "error"}), None)
        said = "" if fault is None else f"{fault.get('message')} {fault.text}"
        if fault is None:
            is_skipped = any(part.tag == "skipped" for part in case)
            passed, skipped = passed + (not is_skipped), skipped + is_skipped
        elif any(rule.fits(name, said) for rule in NOT_RUN):
            skipped += 1
        elif (rule := next((rule for rule in REFUSED if rule.fits(name, said)), None)) is not None:
            refused.setdefault(rule.reason, []).append(name)
        else:
            failed[name] = " ".join(said.split())[:600]
    return Found(passed, skipped, refused, failed, [rule.reason for rule in REFUSED if rule.reason not in refused])


def write(found: Found) -> None:
    """Replace the paragraph of the documentation."""
    text = page_with_table()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{render(found)}\n\n{END}{after}", "utf-8")


def render(found: Found) -> str:
    refused = sum(map(len, found.refused.values()))
    lines = [
        f"huggingface_hub {OWN}: **{found.passed:,} passed, {refused:,} refused by design, "
        f"{len(found.failed):,} failed**; {found.skipped:,} ask the public Hub or are not for this machine.",
        "",
        "| refused by design | tests |",
        "|---|--:|",
    ]
    lines += [
        f"| {reason} | {len(tests)} |" for reason, tests in sorted(found.refused.items(), key=lambda i: -len(i[1]))
    ]
    return "\n".join(lines)
