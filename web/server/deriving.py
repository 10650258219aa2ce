"""A background thread of each worker derives what pages show of new versions; each job runs in its own process."""

from __future__ import annotations

import logging
import threading

from hub.errors import HubError
from hub.registry.derived.work import Deriving
from hub.registry.service import Registry

from ..catalog.recipes import RECIPES

log = logging.getLogger(__name__)
PAUSE_SECONDS = 1.0


def derive_in_background(registry: Registry, pause_seconds: float = PAUSE_SECONDS) -> threading.Event:
    """Start the thread; set the returned event to end it.  Every worker may run one: jobs are claimed first."""
    stop = threading.Event()
    worker = registry.derived.deriving(RECIPES)
    threading.Thread(target=_derive, args=(worker, stop, pause_seconds), name="derived", daemon=True).start()
    return stop


def _derive(worker: Deriving, stop: threading.Event, pause_seconds: float) -> None:
    is_started = False
    while not stop.is_set():
        try:
            if not is_started:
                worker.start()
                is_started = True
            if not worker.step():
                stop.wait(pause_seconds)
        except HubError as error:
            log.warning("deriving waits: %s", error.message)
            stop.wait(10 * pause_seconds)
        except Exception:  # the thread must survive any failure of one job; it is logged
            log.exception("a value could not be derived")
            stop.wait(10 * pause_seconds)
