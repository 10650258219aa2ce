"""Keep a library's advice off our users' terminals where it can't apply.

On a CPU with AVX512-BF16, importing bitsandbytes prints the advice to install a package that fetches a kernel from a
model hub.  The runtime computes 4-bit products itself and fetches nothing, so the advice would mislead.
Every other message of that logger goes on.
"""

from __future__ import annotations

import logging

_LOGGER = "bitsandbytes.backends.cpu.ops"
_ADVICE = "Failed to load CPU gemm_4bit_forward"


def _is_of_use(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_ADVICE)


def silence_advice() -> None:
    """Drop that one line.  To be called before bitsandbytes is imported; calling it again changes nothing."""
    logger = logging.getLogger(_LOGGER)
    if _is_of_use not in logger.filters:
        logger.addFilter(_is_of_use)
