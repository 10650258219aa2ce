"""Products with bitsandbytes' 4-bit weights on a CPU, from their codes: no dense weight is written.

`product` is the door.  Compiled C under native/, one way for each instruction set; what it can't compute, or where it
wasn't built, comes back as None, and the caller goes the general way.
"""

from hub.runtime.kernel.products import product
from hub.runtime.kernel.records import Record, record_of
from hub.runtime.kernel.ways import Way, choose, current, describe, is_built

__all__ = ["Record", "Way", "choose", "current", "describe", "is_built", "product", "record_of"]
