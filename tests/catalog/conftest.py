"""A seeded registry behind a real socket, and a real Chromium in front of it."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from hub.refs import AdapterName
from hub.registry.service import Registry
from hub.settings import ServerSettings
from hub.web.app import create_app
from hub.web.catalog.recipes import CHANGES, RECIPES
from tests.catalog.seeds import Seeded, seed

CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Site:
    """url: where the catalog listens, without a slash at the end."""

    url: str
    seeded: Seeded
    registry: Registry


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("catalog")
    settings = ServerSettings.from_env({}, data=folder / "data", port=0)
    registry = Registry.open(settings)
    seeded = seed(registry, folder / "adapters")
    derive(registry, seeded)
    with listening(registry, settings) as url:
        yield Site(url, seeded, registry)
    registry.close()


def derive(registry: Registry, seeded: Seeded) -> None:
    """Make what the pages show, as a server does soon after each push."""
    deriving, actor = registry.derived.deriving(RECIPES), registry.tokens.authenticate(seeded.token)
    qa = [registry.versions.resolve(actor, AdapterName("task", "qa").at(number)).digest for number in (1, 2, 3)]
    for before, after in combinations(qa, 2):
        registry.derived.want(CHANGES, before, after)
    deriving.finish()
    deriving.close()


@contextmanager
def listening(registry: Registry, settings: ServerSettings, public_url: str | None = None) -> Iterator[str]:
    """Serve the application on a free loopback port, from threads of this process; yield its address.

    public_url: what the pages call the registry; its real address if None.
    """
    server = make_server("127.0.0.1", 0, lambda *_: [], threaded=True)
    url = f"http://127.0.0.1:{server.server_port}"
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.app = create_app(registry, replace(settings, public_url=public_url or url))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser of this machine.  Skips where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def desktop(chromium: Any, site: Site) -> Iterator[Any]:
    """One browser profile at desktop size that may use the clipboard; its cache serves all tests."""
    context = chromium.new_context(
        base_url=site.url, viewport={"width": 1280, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    yield context
    context.close()


@pytest.fixture
def page(desktop: Any) -> Iterator[Any]:
    """A new tab, logged out; any script error fails the test."""
    desktop.clear_cookies()
    tab = desktop.new_page()
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    tab.close()
    assert errors == []


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")
