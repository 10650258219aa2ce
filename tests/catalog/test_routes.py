"""Addresses: what the catalog owns, what it leaves alone, and what it tells nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx2
import pytest
from flask import Flask

from hub.cli import load_command
from hub.errors import InvalidRef, InvalidRequest
from hub.refs import AdapterName
from hub.registry import service
from hub.registry.service import Registry
from hub.settings import ServerSettings
from hub.web.app import create_app
from hub.web.catalog.pages.feeds import ATOM
from hub.web.catalog.snippets import SnippetSource, snippets
from tests.catalog.addresses import ADDRESSES
from tests.catalog.conftest import Site

HF_AND_API = [
    ("GET", "/api/models/task/qa"),
    ("GET", "/api/models/task/qa/revision/v2"),
    ("GET", "/api/models/task/qa/tree/main/sub/folder"),
    ("GET", "/api/whoami-v2"),
    ("GET", "/task/qa/resolve/main/adapter_config.json"),
    ("HEAD", "/task/qa/resolve/v2/deep/er/file.json"),
    ("POST", "/task/qa.git/info/lfs/objects/batch"),
    ("GET", "/api/v1/adapters"),
    ("GET", "/api/v1/adapters/task/qa/versions/v1/files/README.md"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    settings = ServerSettings.from_env({}, data=tmp_path_factory.mktemp("routes"))
    registry = Registry.open(settings)
    yield create_app(registry, settings)
    registry.close()


@pytest.fixture(scope="module")
def visitor(site: Site) -> Iterator[httpx2.Client]:
    """A browser's request without a login."""
    with httpx2.Client(base_url=site.url, headers={"Accept": "text/html"}, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), HF_AND_API)
def test_no_page_takes_an_address_of_the_apis(app: Flask, method: str, path: str) -> None:
    endpoint, _ = app.url_map.bind("localhost").match(path, method=method)
    assert not endpoint.startswith("catalog.")


def test_no_namespace_can_hide_behind_a_page(site: Site, app: Flask) -> None:
    """Every fixed first part of an address is a name that no namespace can get."""
    firsts = {str(rule).split("/")[1] for rule in app.url_map.iter_rules()}
    fixed = {first for first in firsts if first and "<" not in first}
    assert {"api", "bases", "static", "login", "feeds", "badges", "docs"} <= fixed
    actor = site.registry.tokens.authenticate(site.seeded.token)
    for first in sorted(fixed):
        with pytest.raises((InvalidRequest, InvalidRef)):
            site.registry.namespaces.create(actor, first)


def _private_addresses() -> list[str]:
    name = "vault/secret"
    pages = [
        "",
        "/versions",
        "/versions/1",
        "/versions/1/files/README.md",
        "/versions/1/raw/adapter_model.safetensors",
        "/compare",
    ]
    links = ["/tree/main", "/blob/main/README.md", "/commit/" + "0" * 40]
    return ["/vault", "/feeds/vault.atom", f"/feeds/{name}.atom", f"/badges/{name}.svg"] + [
        f"/{name}{rest}" for rest in pages + links
    ]


@pytest.mark.parametrize("address", _private_addresses())
def test_private_things_look_like_missing_ones(visitor: httpx2.Client, address: str) -> None:
    hidden = visitor.get(address)
    missing = visitor.get(address.replace("vault", "nowhere"))
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert hidden.text.replace("vault", "nowhere") == missing.text


def test_list_of_private_cases_knows_every_page_of_an_adapter(app: Flask) -> None:
    rules = {rule.endpoint for rule in app.url_map.iter_rules() if "namespace" in rule.arguments}
    adapter = app.url_map.bind("localhost")
    tried = {adapter.match(address)[0] for address in _private_addresses()}
    assert {rule for rule in rules if rule.startswith("catalog.")} - tried == {"catalog.hf_folder"}


def test_page_for_a_browser_and_json_for_a_program(visitor: httpx2.Client) -> None:
    page, program = visitor.get("/task/none"), visitor.get("/task/none", headers={"Accept": "application/json"})
    assert page.headers["content-type"].startswith("text/html")
    assert program.json()["error"]["code"] == "adapter_not_found"
    assert (page.status_code, program.status_code) == (404, 404)


def test_error_in_the_server_is_a_page_that_keeps_its_secrets(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any) -> None:
        raise RuntimeError("lhub_canary at /secret/path")

    monkeypatch.setattr(service.Adapters, "search", fail)
    answer = app.test_client().get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 500
    assert "<h1>Something went wrong</h1>" in answer.text
    assert "canary" not in answer.text


def test_bad_token_gets_a_page_too(visitor: httpx2.Client) -> None:
    answer = visitor.get("/", headers={"Authorization": "Bearer lhub_wrong"})
    assert answer.status_code == 401
    assert "<h1>" in answer.text


def test_static_files_are_kept_for_good_only_under_their_content(visitor: httpx2.Client) -> None:
    page = visitor.get("/").text
    start = page.index("/static/site.css?v=")
    address = page[start : page.index('"', start)]
    assert "immutable" in visitor.get(address).headers["cache-control"]
    assert "immutable" not in visitor.get("/static/site.css").headers["cache-control"]


def test_pages_name_no_other_host(visitor: httpx2.Client) -> None:
    for address in ADDRESSES.values():
        text = visitor.get(address).text
        for attribute in ('src="http', 'href="http', "@import", "style="):
            found = text.find(attribute)
            assert found < 0 or "nofollow" in text[found : found + 120], (address, text[found : found + 120])


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("/task/qa/tree/v2", "/task/qa/versions/2"),
        ("/task/qa/tree/main", "/task/qa/versions/3"),
        ("/task/qa/blob/prod/README.md", "/task/qa/versions/2/files/README.md"),
        ("/task/qa/tree/prod/no/such/folder", "/task/qa/versions/2"),
    ],
)
def test_links_of_hugging_face_clients_lead_to_the_version(visitor: httpx2.Client, address: str, target: str) -> None:
    answer = visitor.get(address)
    assert answer.status_code == 302
    assert answer.headers["location"] == target


def test_commit_link_leads_to_its_version(site: Site, visitor: httpx2.Client) -> None:
    actor = site.registry.tokens.authenticate(site.seeded.token)
    commit = site.registry.versions.resolve(actor, AdapterName.parse("task/qa").at(2)).commit
    assert visitor.get(f"/task/qa/commit/{commit}").headers["location"] == "/task/qa/versions/2"


def test_feeds_list_versions_newest_first_with_yanks(visitor: httpx2.Client) -> None:
    answer = visitor.get("/feeds/task/qa.atom")
    assert answer.headers["content-type"].startswith("application/atom+xml")
    feed = ElementTree.fromstring(answer.content)
    titles = [entry.findtext(f"{{{ATOM}}}title") for entry in feed.iter(f"{{{ATOM}}}entry")]
    assert titles == ["task/qa@v3", "task/qa@v2", "task/qa@v1 (yanked)"]
    whole = ElementTree.fromstring(visitor.get("/feeds/task.atom").content)
    assert {entry.findtext(f"{{{ATOM}}}title") for entry in whole.iter(f"{{{ATOM}}}entry")} == {
        "task/qa@v3",
        "task/sentiment@v1",
    }


@pytest.mark.parametrize(
    "query", ["q=" + "a" * 5000, "tag=" + "b" * 5000, "cursor=nonsense", "q=%00", "q=%ff", "limit=-1"]
)
def test_odd_questions_are_answered_or_refused(visitor: httpx2.Client, query: str) -> None:
    assert visitor.get(f"/?{query}").status_code in {200, 400}


def test_browsers_and_crawlers_find_what_they_look_for(visitor: httpx2.Client) -> None:
    assert visitor.get("/favicon.ico").headers["location"].endswith("/static/favicon.svg")
    assert "Disallow: /*/compare" in visitor.get("/robots.txt").text


def test_badge_may_be_shown_on_other_sites(visitor: httpx2.Client) -> None:
    answer = visitor.get("/badges/task/qa.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert ElementTree.fromstring(answer.content).get("aria-label") == "lorahub task/qa: v3"


def test_raw_file_is_an_attachment_that_is_never_sniffed(visitor: httpx2.Client) -> None:
    answer = visitor.get("/task/qa/versions/2/raw/notes.md")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text.startswith("# Notes")


def source_of(site: Site) -> SnippetSource:
    version = site.registry.versions.resolve(
        site.registry.tokens.authenticate(site.seeded.token), AdapterName.parse("task/qa").at(2)
    )
    weights = version.manifest.file("adapter_model.safetensors")
    return SnippetSource(version.ref, site.url, version.base, version.rank, version.method, False, weights)


def test_curl_snippet_fetches_and_verifies(site: Site, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    code = next(snippet.code for snippet in snippets(source_of(site)) if snippet.key == "curl")
    done = subprocess.run(
        ["bash", "-e", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "adapter_model.safetensors: OK" in done.stdout


def test_command_line_snippet_runs(site: Site, tmp_path: Path) -> None:
    code = next(snippet.code for snippet in snippets(source_of(site)) if snippet.key == "cli")
    export, check, pull = code.splitlines()
    _, name, *arguments = check.split()
    assert load_command(name).make_context(name, arguments)  # raises for an argument that it doesn't take
    env = {**os.environ, "LORAHUB_CACHE": str(tmp_path / "cache"), "LORAHUB_CONFIG": str(tmp_path / "config.json")}
    script = f"{export}\n{pull.replace('lorahub', f'{sys.executable} -m hub.cli')}"
    done = subprocess.run(
        ["bash", "-e", "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "adapter_model.safetensors").is_file()


def test_empty_registry_says_how_to_begin(app: Flask) -> None:
    text = app.test_client().get("/", headers={"Accept": "text/html"}).text
    assert "No adapters yet" in text
    assert "lorahub push ./my-adapter task/qa" in text


def test_adapter_without_a_version_has_a_page_for_its_makers(site: Site) -> None:
    name = AdapterName.parse("team/draft")
    site.registry.adapters.create(site.registry.tokens.authenticate(site.seeded.token), name)
    with httpx2.Client(base_url=site.url, headers={"Accept": "text/html"}, trust_env=False) as client:
        assert "No version yet" in client.get("/team/draft").text
        assert client.get("/team/draft/versions").status_code == 200
        assert client.get("/team/draft/compare").status_code == 404
        assert client.get("/feeds/team/draft.atom").status_code == 200
        assert "no version" in client.get("/badges/team/draft.svg").text
        assert client.get("/team/draft/tree/main").headers["location"] == "/team/draft"
