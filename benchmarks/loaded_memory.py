"""In a process of its own: what a loaded 4-bit base takes, beside its tensors.  Prints JSON.

python -m benchmarks.loaded_memory FOLDER
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import torch

from benchmarks.runtime_setup import open_ours


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def tensors_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return every tensor of a model once, the statistics of its 4-bit weights included."""
    found = {value.data_ptr(): value for value in [*model.parameters(), *model.buffers()]}
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            nested = [state.state2.absmax, state.state2.code] if state.nested else []
            found |= {value.data_ptr(): value for value in (state.absmax, state.code, *nested)}
    return list(found.values())


def main() -> None:
    base = Path(sys.argv[1])
    a = torch.randn(64, 64)
    a @ a  # what BLAS keeps for itself
    gc.collect()
    before = resident_bytes()
    model = open_ours(base)
    tokens = torch.arange(5, 37).view(1, -1)
    with torch.no_grad():
        model(input_ids=tokens[:, :1], use_cache=False)
    gc.collect()
    loaded = resident_bytes() - before
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    gc.collect()
    ran = resident_bytes() - before
    held = sum(value.numel() * value.element_size() for value in tensors_of(model.base))
    print(json.dumps({"tensors": held, "loaded": loaded, "ran": ran}))


if __name__ == "__main__":
    main()
