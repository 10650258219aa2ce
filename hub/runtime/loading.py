"""`hub.load`: a base and its adapters, checked against each other, quantized, and ready to generate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict, Unpack

from torch import nn

from hub.api import client_settings
from hub.base.spec import BaseSpec
from hub.client import sync
from hub.client.records import VersionInfo
from hub.client.sources import RefLike, parse_source
from hub.errors import InvalidRequest
from hub.refs import AdapterRef
from hub.runtime import dense, four_bit, kernel
from hub.runtime.adapters import placement_of
from hub.runtime.attach import Attachment
from hub.runtime.base import COMPUTE, load_base, locate_base, pick_device
from hub.runtime.base_check import BaseCheck
from hub.runtime.library import Library
from hub.runtime.memory_spec import spec_of
from hub.runtime.model import Model
from hub.runtime.modes import kept_tensors
from hub.runtime.origin import Origin
from hub.runtime.selection import Selection
from hub.runtime.slots import Slots
from hub.settings import ClientSettings

DEFAULT_SLOTS = 8
QUANTIZATIONS = ("nf4", None)


class BaseSettings(TypedDict, total=False):
    """How a base is loaded that isn't a model yet."""

    quantize: str | None
    device: str
    compute: str | None


@dataclass(frozen=True, slots=True)
class _How:
    """The same, with what is taken where nothing is said."""

    quantize: str | None = "nf4"
    device: str = "auto"
    compute: str | None = None

    def __post_init__(self) -> None:
        if self.quantize not in QUANTIZATIONS:
            raise InvalidRequest(f'quantize={self.quantize!r}: "nf4" and None are known.')
        if self.compute is not None and self.compute not in COMPUTE:
            raise InvalidRequest(f"compute={self.compute!r}: {', '.join(map(repr, COMPUTE))} and None are known.")


@kept_tensors()
def load(
    base: str | os.PathLike[str] | nn.Module,
    *refs: RefLike,
    registry: str | None = None,
    slots: int = DEFAULT_SLOTS,
    strict: bool = True,
    **settings: Unpack[BaseSettings],
) -> Model:
    """Return a model that runs adapters on `base`; the first ref is active.

    base: a model's folder, a Hugging Face id, or a transformers model (used as it is: `quantize`, `device` and
        `compute` are its own then).
    refs: registry refs (`task/qa@v2`) or folders of PEFT adapters (`./my-adapter`).
    registry: the registry's address; by default the configured one.
    quantize: "nf4" (4-bit with double quantization) or None (as the base is stored).  A 4-bit base stays 4-bit.
    device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1".
    compute: "float32" or "bfloat16"; by default float32 on a CPU, the same on every machine, and bfloat16 on a GPU.
        On a CPU bfloat16 is quicker where the CPU multiplies it, and rounds every layer's output to 8 bits.
    slots: how many adapters are in memory at once; the least recently used one leaves for another.
    strict: refuse an adapter that was trained on other weights of the same shapes; False warns.

    Raises Incompatible, Unsupported, InvalidAdapter, AdapterNotFound, VersionNotFound, NetworkError, InvalidRequest.
    """
    how = _How(**settings)
    _check_slots(refs, slots)
    kernel.choose()
    asked = client_settings(registry)
    where = pick_device(how.device)
    if isinstance(base, nn.Module):
        origin = Origin.of_model(base)
        model = _make_model(base, refs, asked, BaseCheck(spec_of(base), strict), slots, origin)
    else:
        folder = locate_base(base)
        check = BaseCheck(BaseSpec.from_folder(folder), strict)
        resolved = _check_versions(refs, asked, check)
        loaded = load_base(folder, how.quantize, where, asked.cache, how.compute)
        model = _make_model(loaded, refs, asked, check, slots, Origin(folder), resolved)
    return model


def _check_slots(refs: tuple[RefLike, ...], slots: int) -> None:
    if slots < 1 or len(refs) > slots:
        raise InvalidRequest(f"slots={slots} can't hold {max(len(refs), 1)} adapters: pass slots={max(len(refs), 1)}.")


def _check_versions(refs: tuple[RefLike, ...], settings: ClientSettings, check: BaseCheck) -> dict[str, VersionInfo]:
    """Ask every adapter's manifest whether it fits, before anything is fetched; return what the refs resolved to."""
    resolved = {}
    for source in map(parse_source, refs):
        if isinstance(source, AdapterRef):
            info = resolved[str(source)] = sync.resolve(source, settings)
            if info.manifest is not None:
                check.manifest(str(info.ref), info.manifest)
        else:
            check.folder(str(source), source, settings)
    return resolved


def _make_model(
    base: nn.Module,
    refs: tuple[RefLike, ...],
    settings: ClientSettings,
    check: BaseCheck,
    slots: int,
    origin: Origin,
    resolved: Mapping[str, VersionInfo] | None = None,
) -> Model:
    selection = Selection()
    attachment = Attachment(base, selection)
    four_bit.keep_weights_unpacked(attachment.modules.values())
    library = Library(Slots(slots), attachment, placement_of(attachment), settings, check)
    library.expect(resolved or {})
    base.eval()
    model = Model(base, library, attachment, selection, origin)
    # From the start: a layer's own product must not change its last bits when an adapter or a merge reaches it.
    with attachment.adapted(name for name, module in attachment.modules.items() if dense.is_four_bit(module)):
        _bring(model, refs)
    return model


def _bring(model: Model, refs: tuple[RefLike, ...]) -> None:
    for ref in refs:
        model.add(ref)
    if refs:
        model.use(refs[0])
