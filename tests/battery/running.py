"""Run a case: lorahub and PEFT on the same base with the same adapter, and what came of it."""

from __future__ import annotations

import copy
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import hub
from hub.errors import HubError, Incompatible, Unsupported
from hub.runtime import load
from tests.battery import oracle
from tests.battery.bases import BASES, BaseKind
from tests.battery.cases import Case, draw
from tests.battery.oracle import NoOracle, Workshop, answer

LIMITS = {"float32": 1e-4, "nf4": 1e-4, "fp4": 1e-4, "int8": 2e-2, "bfloat16": 8e-2, "float16": 5e-3}
"""How far apart two right answers may be, by norm: the order of sums differs, and 8 or 11 bits round each."""
MERGED = 6e-2
"""A merge of a 4-bit layer is rounded to bfloat16."""


@dataclass(frozen=True)
class Outcome:
    """verdict: equal, refused, wrong, crashed, or none (PEFT has no answer).  detail: why.  bits: equal to the last."""

    case: Case
    verdict: str
    detail: str = ""
    bits: bool = False


class Wrong(Exception):
    """Another answer than PEFT's."""


def run(seed: int, workshop: Workshop) -> Outcome:
    case = draw(seed)
    try:
        return _compare(case, workshop)
    except NoOracle as error:
        return Outcome(case, "none", str(error))
    except Wrong as error:
        return Outcome(case, "wrong", str(error))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is no answer: the report shows it
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return Outcome(case, "crashed", f"{type(error).__name__} at {place}: {str(error)[:160]}")
    finally:
        for folder in (workshop.root / "adapters").glob(f"{seed}-*"):
            shutil.rmtree(folder)


def _compare(case: Case, workshop: Workshop) -> Outcome:
    kind, folder = BASES[case.base], workshop.adapter(case)
    theirs = oracle.wrap(workshop.open(case), folder)
    with oracle.asked():
        expected = answer(theirs, kind)
    fault = check_finds(case, workshop, folder)
    try:
        ours = load_ours(case, workshop, folder)
    except HubError as error:
        if not fault and case.type in ("float32", "nf4"):
            raise Wrong(f"check says ok, load refuses: {error.message[:200]}") from error
        return Outcome(case, "refused", _first_line(error))
    if fault:
        raise Wrong(f"load loads, check says: {fault}")
    found = answer(ours, kind)
    _near(found, expected, LIMITS[case.type], "load")
    _check_summary(case, workshop, folder, ours)
    try:
        _OPERATIONS[case.operation](case, workshop, ours, expected)
    except (Unsupported, Incompatible) as error:
        return Outcome(case, "refused", f"{case.operation}: {_first_line(error)}")
    return Outcome(case, "equal", bits=torch.equal(found, expected))


def check_finds(case: Case, workshop: Workshop, folder: Path) -> str:
    """Return the first error that check finds, of the files alone."""
    try:
        report = hub.check(workshop.base(case.base), folder)
    except HubError as error:
        return _first_line(error)
    return "" if report.ok else report.errors[0].line()[:200]


def load_ours(case: Case, workshop: Workshop, *folders: Path) -> Any:
    if case.type in ("float32", "nf4"):
        quantize = "nf4" if case.type == "nf4" else None
        return load(workshop.base(case.base), *folders, quantize=quantize, device="cpu")
    return load(workshop.open(case), *folders)


def _near(found: torch.Tensor, expected: torch.Tensor, limit: float, what: str) -> None:
    error = ((found - expected).norm() / expected.norm()).item()
    if not error <= limit:
        raise Wrong(f"{what}: {error:.2g} off")


def _check_summary(case: Case, workshop: Workshop, folder: Path, ours: Any) -> None:
    with oracle.asked():
        import peft

        line = oracle.line_of(peft.get_peft_model(BASES[case.base].open(workshop.base(case.base)), _config(case)))
    summary = hub.summary(folder, workshop.base(case.base))
    for what, said in (("summary", summary), ("model.summary", ours.summary() if case.type == "float32" else summary)):
        if said.line() != line:
            raise Wrong(f"{what}: {said.line()} and PEFT: {line}")
    for rows in (summary.by_kind(), summary.by_layer()):
        if sum(row.parameters for row in rows) != sum(part.count for part in summary.parts):
            raise Wrong("a table of the summary has another sum than its line")


def _config(case: Case) -> Any:
    import peft

    return peft.LoraConfig(**copy.deepcopy(dict(case.settings)))


# --- operations, on a model that says what PEFT says


def _load(case: Case, workshop: Workshop, ours: Any, expected: torch.Tensor) -> None:
    difference = hub.diff(workshop.adapter(case), workshop.adapter(case))
    if not difference.same:
        raise Wrong("diff: an adapter differs from itself")


def _switch(case: Case, workshop: Workshop, ours: Any, expected: torch.Tensor) -> None:
    kind, second = BASES[case.base], workshop.adapter(case, 1)
    theirs = answer(oracle.wrap(workshop.open(case), second), kind)
    ours.add(second)
    ours.use(second)
    _near(answer(ours, kind), theirs, LIMITS[case.type], "switch")
    ours.use(None)
    _near(answer(ours, kind), answer(workshop.open(case), kind), LIMITS[case.type], "bare")
    ours.use(workshop.adapter(case))
    _near(answer(ours, kind), expected, LIMITS[case.type], "switch back")


def _merge(case: Case, workshop: Workshop, ours: Any, expected: torch.Tensor) -> None:
    kind = BASES[case.base]
    before = answer(ours, kind)
    report = ours.merge()
    if case.type == "int8":  # unmerged, the inputs have 8 bits, too; merged, the weights alone had
        dense = oracle.wrap(oracle.densified(workshop.open(case)), workshop.adapter(case))
        expected = answer(dense, kind)
    _near(answer(ours, kind), expected, max(LIMITS[case.type], MERGED), f"merge ({report.retention:.3f} kept)")
    ours.unmerge()
    if not torch.equal(answer(ours, kind), before):
        raise Wrong("unmerge is not exact")


def _save(case: Case, workshop: Workshop, ours: Any, expected: torch.Tensor) -> None:
    kind = BASES[case.base]
    folder = workshop.root / "adapters" / f"{case.seed}-merged"
    ours.merge()
    merged = answer(ours, kind)
    ours.save_merged(folder)
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(case.type, torch.float32)
    _near(answer(kind.open(folder, dtype=dtype), kind), merged, LIMITS[case.type] / 10, "the saved merge")


def _rows(case: Case, workshop: Workshop, ours: Any, expected: torch.Tensor) -> None:
    kind, second = BASES[case.base], workshop.adapter(case, 1)
    if case.base == "clip":
        return  # every text's logits depend on all images
    rows = [workshop.adapter(case), second, None][: next(iter(kind.inputs().values())).shape[0]]
    alone = [answer(ours, kind, adapters=row) for row in rows]
    mixed = answer(ours, kind, adapters=rows)
    if mixed.shape[0] != len(rows):
        return
    for index, found in enumerate(alone):
        _near(mixed[index], found[index], LIMITS[case.type], f"row {index}")


def _sum(case: Case, workshop: Workshop, ours: Any, expected: torch.Tensor) -> None:
    first, kind = workshop.adapter(case), BASES[case.base]
    with ours.using({first: 1.0}):
        _near(answer(ours, kind), expected, LIMITS[case.type], "a sum of one")


def _copy(case: Case, workshop: Workshop, ours: Any, expected: torch.Tensor) -> None:
    kind = BASES[case.base]
    before = answer(ours, kind)
    copied = copy.deepcopy(ours)
    if not torch.equal(answer(copied, kind), before):
        raise Wrong("a copy says something else")


def _convert(case: Case, workshop: Workshop, ours: Any, expected: torch.Tensor) -> None:
    kind: BaseKind = BASES[case.base]
    if case.type in oracle.DTYPES:
        _near(answer(ours.to(torch.float32), kind), expected, LIMITS[case.type] * 2, "to float32")
    with torch.autocast("cpu", torch.bfloat16):
        _near(answer(ours, kind), expected, 8 * LIMITS["bfloat16"], "autocast")


_OPERATIONS: Mapping[str, Callable[[Case, Workshop, Any, torch.Tensor], None]] = {
    "load": _load,
    "switch": _switch,
    "merge": _merge,
    "save": _save,
    "rows": _rows,
    "sum": _sum,
    "copy": _copy,
    "convert": _convert,
}


def _first_line(error: HubError) -> str:
    lines = [line for line in error.message.splitlines() if line and "does not fit this base" not in line]
    return lines[0][:200]
