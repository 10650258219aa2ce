"""What `lorahub doctor` says of the 4-bit kernel."""

from __future__ import annotations

from hub.client.doctor import ERROR, OK, WARNING, Check
from hub.errors import HubError
from hub.runtime import kernel

NAME = "4-bit kernel"


def check_kernel() -> Check:
    """Return which way products of 4-bit weights go in this process."""
    try:
        way = kernel.choose()
    except HubError as error:
        return Check(NAME, ERROR, error.message, "unset LORAHUB_KERNEL")
    if way is not None or kernel.is_built():
        return Check(NAME, OK, kernel.describe())
    again = (
        "Install a C compiler (gcc or clang), then lorahub-registry again: pip install --force-reinstall --no-deps …"
    )
    return Check(NAME, WARNING, f"{kernel.describe()}; 4-bit products take several times as long", again)
