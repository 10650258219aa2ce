"""A background thread of each worker posts webhooks from the registry's outbox in the database."""

from __future__ import annotations

import logging
import threading
import time

from hub.errors import HubError
from hub.registry.service import Registry

log = logging.getLogger(__name__)
PAUSE_SECONDS = 5.0
PRUNE_SECONDS = 600.0


def deliver_in_background(registry: Registry, pause_seconds: float = PAUSE_SECONDS) -> threading.Event:
    """Start the thread; set the returned event to end it.  Every worker may: each delivery is claimed first."""
    stop = threading.Event()
    threading.Thread(target=_deliver, args=(registry, stop, pause_seconds), name="webhooks", daemon=True).start()
    return stop


def _deliver(registry: Registry, stop: threading.Event, pause_seconds: float) -> None:
    next_prune = time.monotonic()
    while not stop.wait(pause_seconds):
        try:
            registry.webhooks.deliver()
            if time.monotonic() >= next_prune:
                registry.webhooks.prune()
                next_prune = time.monotonic() + PRUNE_SECONDS
        except HubError as error:
            log.warning("webhooks wait: %s", error.message)
        except Exception:  # the thread must survive any failure of one delivery; it is logged
            log.exception("a webhook delivery failed")
