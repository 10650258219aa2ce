"""Algebra on low-rank updates without ever building them.

An update is ΔW = scaling · B · A with A (rank, in) and B (out, rank).  Products of two updates need rank x rank numbers
only: <ΔW₁, ΔW₂> = s₁ s₂ Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ), and the singular values of ΔW are those of R_B R_Aᵀ, from the QR
factors of B and Aᵀ.  Needs numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hub.adapter.content import AdapterContent
from hub.adapter.files import inspect_adapter, read_weights_header
from hub.errors import HubError
from hub.formats.readable import Readable
from hub.formats.safetensors_header import Header, TensorInfo
from hub.manifest import WEIGHTS_FILE

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
        for module, tensors in sorted(self.content.by_module().items()):
            for first, second in _PAIRS:
                a, b = tensors.get(first), tensors.get(second)
                if a is not None and b is not None and a.shape[0] <= MAX_RANK:
                    yield self._factors(module, a.name, b.name)

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
    """Return ‖ΔW‖, the square root of the sum of its squared entries."""
    return float(max(inner_product(factors, factors), 0.0) ** 0.5)


def cosine(first: Factors, second: Factors) -> float | None:
    """Return the cosine between two updates, from -1 to 1; None if one is zero or their shapes differ."""
    if first.shape != second.shape:
        return None
    lengths = norm(first) * norm(second)
    if not lengths:
        return None
    return max(-1.0, min(1.0, inner_product(first, second) / lengths))


def singular_values(factors: Factors) -> Matrix:
    """Return the singular values of ΔW that can differ from zero, the largest first."""
    np = numpy()
    _, r_b = np.linalg.qr(factors.b)
    _, r_a = np.linalg.qr(factors.a.T)
    values: Matrix = abs(factors.scaling) * np.linalg.svd(r_b @ r_a.T, compute_uv=False)
    return values


def effective_rank(factors: Factors) -> float:
    """Return how many directions the update really uses: e to the entropy of its singular values' shares.

    From 1 (one direction) to the rank (all equally); 0 for a zero update.
    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    np = numpy()
    values = singular_values(factors)
    total = values.sum()
    if not total or not np.isfinite(total):
        return 0.0
    shares = values / total
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
