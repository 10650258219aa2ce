"""Algebra on low-rank updates without ever building them.

An update is ΔW = scaling · B · A with A (rank, in) and B (out, rank).  Products of two updates need rank x rank numbers
only: <ΔW₁, ΔW₂> = s₁ s₂ Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ), and the singular values of ΔW are those of R_B R_Aᵀ, from the QR
factors of B and Aᵀ.  Needs numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan, prod
from typing import TYPE_CHECKING, Any, cast

from hub.adapter.content import AdapterContent
from hub.adapter.files import inspect_adapter, read_weights_header
from hub.errors import HubError
from hub.formats.readable import Readable
from hub.formats.safetensors_header import Header, TensorInfo
from hub.manifest import WEIGHTS_FILE, TensorEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

MAX_RANK = 2_048
"""Of an update that is looked at: the work grows with its square."""

_PAIRS = (("lora_A", "lora_B"), ("embedding_A", "embedding_B"))


@dataclass(frozen=True, slots=True)
class Factors:
    """One module's update.  a: (rank, in), b: (out, rank), both float64; scaling is not in them."""

    module: str
    scaling: float
    a: Matrix = field(repr=False)
    b: Matrix = field(repr=False)

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the update."""
        return int(self.b.shape[0]), int(self.a.shape[1])


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """An adapter's content, and access to its tensors one at a time."""

    content: AdapterContent
    header: Header = field(repr=False)
    file: Readable = field(repr=False)

    @classmethod
    def open(cls, files: Mapping[str, Readable]) -> AdapterWeights:
        """Raise InvalidAdapter, InvalidSafetensors or UnsafeFile as `inspect_adapter` does."""
        return cls(inspect_adapter(files), read_weights_header(files), files[WEIGHTS_FILE])

    def factors(self) -> Iterator[Factors]:
        """Yield the update of every module, in the order of their names; those above MAX_RANK are left out."""
        for module, a, b in self._pairs():
            yield self._factors(module, a.name, b.name)

    def map_flops(self) -> float:
        """Return how many operations norm and effective rank of all modules take, roughly: nothing is read for it.

        Products and QR of both factors take 4 r² of them per feature, the singular values 20 r³ in all.
        """
        return float(sum(_map_flops(a, b) for _, a, b in self._pairs()))

    def _pairs(self) -> Iterator[tuple[str, TensorEntry, TensorEntry]]:
        for module, tensors in sorted(self.content.by_module().items()):
            for first, second in _PAIRS:
                a, b = tensors.get(first), tensors.get(second)
                if a is not None and b is not None and a.shape[0] <= MAX_RANK:
                    yield module, a, b

    def bytes_of(self, name: str) -> bytes:
        tensor = self.header.tensors[name]
        return self.file.read(tensor.start, tensor.size_bytes)

    def _factors(self, module: str, a_name: str, b_name: str) -> Factors:
        a, b = self._array(a_name), self._array(b_name)
        # Convolutions have more than two dimensions: A's kernel belongs to its input, B's is 1 x 1.
        a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
        return Factors(module, self.content.config.scaling_for(module), a, b)

    def _array(self, name: str) -> Matrix:
        return decode(self.bytes_of(name), self.header.tensors[name])


def _map_flops(a: TensorEntry, b: TensorEntry) -> int:
    rank = a.shape[0]
    features = (prod(a.shape) + prod(b.shape)) // max(rank, 1)
    return 4 * rank**2 * features + 20 * rank**3


def numpy() -> Any:
    """Return numpy.  Raises HubError with the next step if it isn't installed."""
    try:
        import numpy as np
    except ImportError as error:
        raise HubError("Comparing weights needs numpy, which is not installed. Run: pip install numpy") from error
    return np


def decode(data: bytes, tensor: TensorInfo) -> Matrix:
    """Return a tensor's bytes as float64.  dtype: F64, F32, F16 or BF16; raises HubError for another."""
    np = numpy()
    if tensor.dtype == "BF16":
        raw = np.frombuffer(data, "<u2").astype("<u4") << 16
        values = raw.view("<f4")
    elif tensor.dtype in {"F64", "F32", "F16"}:
        values = np.frombuffer(data, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[tensor.dtype])
    else:
        raise HubError(f"The tensor {tensor.name} has the dtype {tensor.dtype}, which holds no LoRA weights.")
    matrix: Matrix = values.reshape(tensor.shape).astype("f8")
    return matrix


def inner_product(first: Factors, second: Factors) -> float:
    """Return <ΔW₁, ΔW₂>, the sum of the products of their entries.  Both have one shape."""
    scale = first.scaling * second.scaling
    return float(scale * ((first.b.T @ second.b) * (first.a @ second.a.T)).sum())


def norm(factors: Factors) -> float:
    """Return ‖ΔW‖, the square root of the sum of its squared entries; NaN if they are not all finite."""
    square = inner_product(factors, factors)
    return max(square, 0.0) ** 0.5 if isfinite(square) else nan


def cosine(first: Factors, second: Factors) -> float | None:
    """Return the cosine between two updates, -1 to 1; None if one is zero or not finite, or shapes differ."""
    if first.shape != second.shape:
        return None
    lengths = norm(first) * norm(second)
    if not lengths or not isfinite(lengths):
        return None
    return max(-1.0, min(1.0, inner_product(first, second) / lengths))


def singular_values(factors: Factors) -> Matrix:
    """Return the singular values of ΔW that can differ from zero, the largest first; NaN if it is not finite."""
    np = numpy()
    r_b, r_a = np.linalg.qr(factors.b, mode="r"), np.linalg.qr(factors.a.T, mode="r")
    core = r_b @ r_a.T
    if not np.isfinite(core).all():
        return cast("Matrix", np.full(min(core.shape), np.nan))
    values: Matrix = abs(factors.scaling) * np.linalg.svd(core, compute_uv=False)
    return values


def effective_rank(factors: Factors) -> float:
    """Return how many directions the update really uses: e to the entropy of its singular values' shares.

    From 1 (one direction) to the rank (all equally); 0 for a zero update, NaN for one that is not finite.
    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    np = numpy()
    values = singular_values(factors)
    total = values.sum()
    if not np.isfinite(total):
        return nan
    if not total:
        return 0.0
    shares = values / total
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
