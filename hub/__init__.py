"""lorahub: versioned LoRA adapters, and the shortest faithful way to run one on a local 4-bit base.

    import hub
    model = hub.load("./base-model", "task/qa@v2")

Importing this package costs no more than the standard library: every public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.adapter.diff import AdapterDiff
    from hub.api import check, diff, info, pull, push, search, summary
    from hub.errors import HubError
    from hub.fit.parameters import ParameterSummary
    from hub.fit.report import CompatReport
    from hub.refs import AdapterRef
    from hub.runtime import MergeReport, Model, load
    from hub.training import MemoryPlan, plan, train

_HOMES = {
    "AdapterDiff": "hub.adapter.diff",
    "AdapterRef": "hub.refs",
    "CompatReport": "hub.fit.report",
    "HubError": "hub.errors",
    "MemoryPlan": "hub.training",
    "MergeReport": "hub.runtime",
    "Model": "hub.runtime",
    "ParameterSummary": "hub.fit.parameters",
    "check": "hub.api",
    "diff": "hub.api",
    "info": "hub.api",
    "load": "hub.runtime",
    "plan": "hub.training",
    "pull": "hub.api",
    "push": "hub.api",
    "search": "hub.api",
    "summary": "hub.api",
    "train": "hub.training",
}

__version__ = "0.1.0"
__all__ = [
    "AdapterDiff",
    "AdapterRef",
    "CompatReport",
    "HubError",
    "MemoryPlan",
    "MergeReport",
    "Model",
    "ParameterSummary",
    "check",
    "diff",
    "info",
    "load",
    "plan",
    "pull",
    "push",
    "search",
    "summary",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hub' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
