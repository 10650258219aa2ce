"""The modules of one base that adapters can reach, by name, and how many of them have been adapted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

from torch import nn

from hub.base.spec import BaseSpec
from hub.errors import Conflict, Incompatible
from hub.runtime import layers
from hub.runtime.memory_spec import ends, places_of
from hub.runtime.selection import Selection


class Attachment:
    """Names, indices and modules of one base.  Adapting one changes nothing until a choice is made."""

    def __init__(self, base: nn.Module, selection: Selection) -> None:
        """Raise Incompatible if `base` is wrapped by PEFT or adapted by another model already."""
        self.base = base
        self.modules: dict[str, nn.Module] = dict(base.named_modules())
        self.selection = selection
        self._indices = {name: index for index, name in enumerate(self.modules)}
        self.names: Mapping[int, str] = dict(enumerate(self.modules))
        self._ends = self._find_ends()
        self.read_by_calls: set[tuple[int, str]] = set()  # parameters that are proven to be
        refuse_wrapped(base, self.modules)

    @cached_property
    def spec(self) -> BaseSpec:
        """What adapters are compared with: the modules and parameters of this very model."""
        return places_of(self.base)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "spec"}  # it is made again

    def refresh(self, in_use: Iterable[int]) -> None:
        """Take in modules that somebody put in the place of others, as resize_token_embeddings does.

        in_use: the modules that adapters in memory have updates for.  Raises Conflict if one of those is gone.
        """
        here = dict(self.base.named_modules(remove_duplicate=False))
        replaced = [name for name, module in self.modules.items() if here.get(name) is not module]
        gone = {self.names[index] for index in in_use}.intersection(replaced) | (replaced - here.keys())
        if gone:
            raise _replaced_since(min(gone))
        self.modules.update({name: here[name] for name in replaced})
        self._ends = self._find_ends()
        self.__dict__.pop("spec", None)

    def check_ends(self, in_use: Mapping[int, object]) -> None:
        """Raise Conflict if an embedding or output head that is adapted isn't the base's own any more."""
        for index, (parent, key, module) in self._ends.items():
            if index in in_use and parent._modules.get(key) is not module:
                raise _replaced_since(self.names[index])

    def _find_ends(self) -> dict[int, tuple[nn.Module, str, nn.Module]]:
        found = {}
        for name, module in self.modules.items():
            if name and any(module is end for end in ends(self.base)):
                parent, _, key = name.rpartition(".")
                found[self._indices[name]] = (self.modules[parent], key, module)
        return found

    def index(self, name: str) -> int:
        return self._indices[name]

    def adapt(self, names: Iterable[str]) -> None:
        """Let the named modules take updates; those that already do are left as they are."""
        with self.adapted(names):
            pass

    @contextmanager
    def adapted(self, names: Iterable[str]) -> Iterator[None]:
        """Let the named modules take updates from this block on; if it fails, those that didn't before don't after."""
        fresh = [name for name in names if not isinstance(self.modules[name], layers.Adapted)]
        try:
            for name in fresh:
                layers.adapt(self.modules[name], self._indices[name], self.selection)
            yield
        except BaseException:
            for name in fresh:
                layers.restore(self.modules[name])
            raise

    def release(self) -> None:
        """Give every module its own class back."""
        for module in self.modules.values():
            layers.restore(module)


def refuse_wrapped(base: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Raise Incompatible for a base that something else computes adapters in already."""
    if type(base).__module__.startswith("peft.") or any(
        type(m).__module__.startswith("peft.") for m in modules.values()
    ):
        raise Incompatible(
            "This base is wrapped by PEFT already, and two runtimes would both add their adapters. "
            "Give hub.load the bare model: peft_model.unload()."
        )
    if any(isinstance(module, layers.Adapted) for module in modules.values()):
        raise Incompatible("This base is used by another hub.Model. Add adapters to that one, or load the base again.")


def _replaced_since(name: str) -> Conflict:
    return Conflict(
        f"Another module was put in the place of {name} while an adapter of it was in memory "
        "(resize_token_embeddings does that), so the adapter has no effect there. "
        "Resize the model first, then hub.load(model, …)."
    )
