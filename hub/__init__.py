"""lorahub: versioned LoRA adapters, and the shortest faithful way to run one on a local 4-bit base.

    import hub
    model = hub.load("./base-model", "task/qa@v2")

Importing this package costs no more than the standard library: every public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.errors import HubError
    from hub.refs import AdapterRef

_HOMES = {
    "AdapterRef": "hub.refs",
    "HubError": "hub.errors",
}

__version__ = "0.1.0"
__all__ = ["AdapterRef", "HubError"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hub' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
