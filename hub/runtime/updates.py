"""What an adapter does at one module: the mathematics, one small class per kind of update.

Shapes: x (..., in), out (..., out).  A is kept as `a_t` (in, rank) and B as `b_t` (rank, out): views of the file's own
memory.  An update costs two matrix products, the second of which scales and adds to the base's output in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hub.runtime.layers import follow


class Update(ABC):
    """One adapter's part at one module.

    `run` computes the module's whole output.  `finish` turns the base's output into the module's; it may write to
    `out`, which its caller gives away.
    """

    __slots__ = ()

    def run(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        return self.finish(layer, args[0], layer.bare(*args, **kwargs))

    @abstractmethod
    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor: ...

    def tensors(self) -> Sequence[torch.Tensor]:
        """Return what this update holds in memory."""
        return ()


class LowRank(Update):
    """out + scaling * (x A^T) B^T (+ bias).  LoRA, rsLoRA, patterns and lora_bias differ in the numbers only.

    a_t: (in, rank); b_t: (rank, out); bias: (out,), times the scaling, or None.
    """

    __slots__ = ("a_t", "b_t", "bias", "scaling")

    def __init__(
        self, a_t: torch.Tensor, b_t: torch.Tensor, bias: torch.Tensor | None = None, scaling: float = 1.0
    ) -> None:
        self.a_t, self.b_t, self.bias, self.scaling = a_t, b_t, bias, scaling

    @property
    def rank(self) -> int:
        return self.a_t.shape[1]

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        dtype = self.a_t.dtype
        flat = x.reshape(-1, x.shape[-1])
        hidden = torch.mm(flat if flat.dtype == dtype else flat.to(dtype), self.a_t)  # (rows, rank)
        return add_product(out, hidden, self.b_t, self.bias, self.scaling)

    def factors(self, weight: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A (rank, in) and weight * scaling * B (out, rank)."""
        factor = weight * self.scaling
        return self.a_t.t(), self.b_t.t() if factor == 1.0 else self.b_t.t() * factor

    def tensors(self) -> Sequence[torch.Tensor]:
        return [t for t in (self.a_t, self.b_t, self.bias) if t is not None]


def add_product(
    out: torch.Tensor, hidden: torch.Tensor, b_t: torch.Tensor, bias: torch.Tensor | None = None, scaling: float = 1.0
) -> torch.Tensor:
    """Return `out + scaling * hidden @ b_t (+ bias)` in out's dtype, in place where that is safe.

    out: (..., out); hidden: (rows, rank); b_t: (rank, out).
    """
    if out.dtype == hidden.dtype == b_t.dtype and not torch.is_grad_enabled() and out.is_contiguous():
        flat = out.view(-1, out.shape[-1])
        flat.addmm_(hidden, b_t, alpha=scaling)
        if bias is not None:
            flat.add_(bias)
        return out
    # Added in the wider of the two types, and rounded once.
    update = torch.mm(hidden, b_t).view(out.shape) * scaling
    if bias is not None:
        update = update + bias
    return (out + update).to(out.dtype)


class Dora(Update):
    """gain * (base without its bias) + bias + scaling * (x A^T) (gain * B)^T, with gain = magnitude / ||W + B A||.

    The norm needs the dense weight; it is taken once, when the adapter is loaded.  Source: Liu et al. 2024,
    arXiv:2402.09353, section 4.3.
    """

    __slots__ = ("gain", "low_rank")

    def __init__(self, low_rank: LowRank, gain: torch.Tensor) -> None:
        self.low_rank, self.gain = low_rank, gain

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        bias = getattr(layer, "bias", None)
        wide = out if bias is None else out - bias
        wide = wide * self.gain  # (out,): in float32 even where the base's output isn't
        if bias is not None:
            wide = wide + bias
        return self.low_rank.finish(layer, x, wide).to(out.dtype)

    def tensors(self) -> Sequence[torch.Tensor]:
        return [*self.low_rank.tensors(), self.gain]


class EmbeddingLowRank(Update):
    """gain * out + scaling * A[:, ids]^T B^T.  a: (rank, vocabulary); b_t: (rank, width), times the gain.

    scaling: alpha / rank, times the factor that the embedding multiplies its own rows by.
    """

    __slots__ = ("a", "b_t", "gain", "scaling")

    def __init__(self, a: torch.Tensor, b_t: torch.Tensor, scaling: float, gain: torch.Tensor | None = None) -> None:
        self.a, self.b_t, self.scaling, self.gain = a, b_t, scaling, gain

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        hidden = functional.embedding(x.reshape(-1), self.a.t())  # (tokens, rank)
        wide = out if self.gain is None else out * self.gain
        return add_product(wide, hidden, self.b_t, scaling=self.scaling).to(out.dtype)

    def tensors(self) -> Sequence[torch.Tensor]:
        return [t for t in (self.a, self.b_t, self.gain) if t is not None]


class Tokens(Update):
    """An embedding with some rows replaced.  ids: (n,) sorted; rows: (n, width), times the embedding's own scale."""

    __slots__ = ("ids", "rows")

    def __init__(self, ids: torch.Tensor, rows: torch.Tensor) -> None:
        self.ids, self.rows = ids, rows

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        place = torch.searchsorted(self.ids, x).clamp_(max=len(self.ids) - 1)
        is_trained = (self.ids[place] == x).unsqueeze(-1)
        return torch.where(is_trained, self.rows[place].to(out.dtype), out)

    def tensors(self) -> Sequence[torch.Tensor]:
        return [self.ids, self.rows]


class TokenLogits(Update):
    """The output head that is tied to an embedding with replaced rows: those tokens' logits are computed anew.

    PEFT multiplies by the tied weight alone, so a head's bias (BERT) has no part in what was trained, for any token.
    """

    __slots__ = ("ids", "rows")

    def __init__(self, ids: torch.Tensor, rows: torch.Tensor) -> None:
        self.ids, self.rows = ids, rows

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        bias = getattr(layer, "bias", None)
        out = out if bias is None else out - bias
        return out.index_copy(-1, self.ids, functional.linear(x, self.rows.to(x.dtype)).to(out.dtype))


class Replaced(Update):
    """A module with some of its parameters replaced (modules_to_save, trained biases), then a low-rank update or none.

    shadow: a module of its own that shares everything else with the base's.  values: parameter -> what replaces it.
    """

    __slots__ = ("shadow", "then", "values")

    def __init__(self, shadow: nn.Module, values: Mapping[str, torch.Tensor], then: Update | None = None) -> None:
        self.shadow, self.then, self.values = shadow, then, values

    def run(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        follow(self.shadow, layer, self.values)  # the base may have been converted, or its weights just brought in
        out = self.shadow(*args, **kwargs)
        return out if self.then is None else self.then.finish(self.shadow, args[0], out)

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        replaced: torch.Tensor = self.run(layer, x)
        return replaced

    def tensors(self) -> Sequence[torch.Tensor]:
        return [*self.values.values(), *(self.then.tensors() if self.then else ())]


class Substitute(Update):
    """A module whose weight was merged: `product` computes the whole output."""

    __slots__ = ("bias", "product", "weight")

    def __init__(self, product: Callable[[torch.Tensor], torch.Tensor], weight: Any, bias: torch.Tensor | None) -> None:
        self.product, self.weight, self.bias = product, weight, bias

    def run(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        return self.product(args[0])

    def finish(self, layer: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return self.product(x)
