"""The modules of one base that adapters can reach, by name, and how many of them have been adapted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from hub.errors import Incompatible
from hub.runtime import layers
from hub.runtime.selection import Selection


class Attachment:
    """Names, indices and modules of one base.  Adapting one changes nothing until a choice is made."""

    def __init__(self, base: nn.Module, selection: Selection) -> None:
        """Raise Incompatible if `base` is wrapped by PEFT or adapted by another model already."""
        self.modules: Mapping[str, nn.Module] = dict(base.named_modules())
        self.selection = selection
        self._indices = {name: index for index, name in enumerate(self.modules)}
        self.names: Mapping[int, str] = dict(enumerate(self.modules))
        refuse_wrapped(base, self.modules)

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
