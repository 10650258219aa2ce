"""Which modules of a base training adapts: looked up on the base's own modules, never taken from a list alone.

PEFT takes what it finds of the names that it is given, and says nothing of the others: `q_proj, k_proj, v_proj, o_proj`
on a base with one fused `qkv_proj` (phi3) would train the output projection alone.
"""

from __future__ import annotations

from collections.abc import Collection

from hub.errors import InvalidRequest

DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The projections of attention, by the names that most bases give them; else what stands in their place."""

_INPUTS = (
    ("q_proj", "k_proj", "v_proj"),
    ("qkv_proj",),
    ("query_key_value",),
    ("c_attn",),
    ("Wqkv",),
    ("W_pack",),
    ("query", "key", "value"),
    ("q", "k", "v"),
)
_OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj", "o", "wo")


def resolve_targets(names: Collection[str], modules: Collection[str]) -> tuple[str, ...]:
    """Return the names to adapt among `modules`, each of which is there.

    names: as given; DEFAULT_TARGETS means attention's projections, whatever the base calls them.
    Raises InvalidRequest for a name that no module has, and where attention can't be told.
    """
    missing = [name for name in names if not _matching(name, modules)]
    if not missing:
        return tuple(names)
    if tuple(names) != DEFAULT_TARGETS:
        raise InvalidRequest(f"The base has no module {', '.join(missing)}; it has {_present(modules)}.")
    found = _attention(modules)
    if not found:
        raise InvalidRequest(
            f"Attention's projections can't be told on this base. Name target_modules; it has {_present(modules)}."
        )
    return found


def _attention(modules: Collection[str]) -> tuple[str, ...]:
    """Return the projections that lie beside each other in attention, by names that match nothing else."""
    for inputs in _INPUTS:
        parents = {module.rpartition(".")[0] for module in _matching(inputs[0], modules)}
        if parents and all(f"{parent}.{name}" in modules for parent in parents for name in inputs):
            output = next((name for name in _OUTPUTS if all(f"{p}.{name}" in modules for p in parents)), None)
            return tuple(_unambiguous(name, parents, modules) for name in (*inputs, output) if name is not None)
    return ()


def _unambiguous(name: str, parents: Collection[str], modules: Collection[str]) -> str:
    """Return the name, with its parent's in front if modules elsewhere have it, too (gpt2's c_proj)."""
    is_elsewhere = any(module.rpartition(".")[0] not in parents for module in _matching(name, modules))
    return f"{next(iter(parents)).rpartition('.')[2]}.{name}" if is_elsewhere else name


def _matching(name: str, modules: Collection[str]) -> list[str]:
    return [module for module in modules if module == name or module.endswith(f".{name}")]


def _present(modules: Collection[str]) -> str:
    return ", ".join(sorted({module.rpartition(".")[2] for module in modules}))
