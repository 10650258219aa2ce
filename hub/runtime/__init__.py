"""Run LoRA adapters on a base model, dense or 4-bit.  Needs the extra `load`.

from hub.runtime import load
model = load("./base-model", "task/qa@v2")
"""

from hub.runtime.quiet import silence_advice

silence_advice()  # before anything imports bitsandbytes

from hub.runtime.loading import load  # noqa: E402
from hub.runtime.merge import MergeReport  # noqa: E402
from hub.runtime.model import Model  # noqa: E402

__all__ = ["MergeReport", "Model", "load"]
