"""What torch users do to a module, done to a base with adapters: convert it, copy it, send it to another process."""

from __future__ import annotations

from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any, Self

from hub.errors import Conflict

if TYPE_CHECKING:
    from hub.runtime.library import Library
    from hub.runtime.merge_claim import MergeClaim
    from hub.runtime.selection import Selection


class ModuleWays:
    """`to`, `eval`, `deepcopy`, pickling.  What isn't defined is handed to the base; what returns it, returns this."""

    base: Any
    _library: Library
    _claim: MergeClaim
    _selection: Selection

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert base and adapters, as `torch.nn.Module.to` does.

        On a CPU the adapters' factors stay in float32.  Raises Conflict while merged, compiled, or while a weighted sum
        is active.
        """
        return self._converted("to", *args, **kwargs)

    def half(self) -> Self:
        return self._converted("half")

    def bfloat16(self) -> Self:
        return self._converted("bfloat16")

    def float(self) -> Self:
        return self._converted("float")

    def double(self) -> Self:
        return self._converted("double")

    def cpu(self) -> Self:
        return self._converted("cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> Self:
        return self._converted("cuda", *args, **kwargs)

    def _converted(self, name: str, *args: Any, **kwargs: Any) -> Self:
        with self._library.slots.lock:
            self._claim.refuse_change("be converted")
            self._refuse_compiled("converted")
            active = self._selection.shared.label
            if active is not None and not isinstance(active, str):
                raise Conflict("A weighted sum is active. Choose one adapter, model.use(ref), then convert the model.")
            self._library.check_unchanged()
            getattr(self.base, name)(*args, **kwargs)
            self._library.place_again()
            if active is not None:
                self._selection.shared = self._library.require(active).choice
        return self

    def _refuse_compiled(self, what: str) -> None:
        if self._library.slots.bank is not None:
            raise Conflict(f"This model is compiled for adapters in slots, so it can't be {what}. Load it again.")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "base":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = getattr(self.base, name)
        is_method = isinstance(found, MethodType) and found.__self__ is self.base
        return self._chained(found) if is_method else found

    def _chained(self, method: Any) -> Any:
        """Return the base's method, which returns this model where it would return the base: `eval`, `train`."""

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            return self if found is self.base else found

        return call

    def __getstate__(self) -> dict[str, Any]:
        with self._library.slots.lock:
            self._refuse_compiled("copied")
            return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._library.slots.keep_pinned(self._selection.shared.refs)
