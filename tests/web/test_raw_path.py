"""An encoded slash in a URL is part of a name; a plain one separates."""

from __future__ import annotations

import pytest
from flask import Flask, jsonify, url_for

from hub.web.http.raw_path import CONVERTERS, KeepEncodedSlashes


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.url_map.converters.update(CONVERTERS)
    app.wsgi_app = KeepEncodedSlashes(app.wsgi_app)  # type: ignore[method-assign]

    @app.get("/at/<selector:sel>")
    def at(sel: str) -> object:
        return jsonify(sel=sel)

    @app.get("/at/<selector:sel>/files/<filepath:path>")
    def file(sel: str, path: str) -> object:
        return jsonify(sel=sel, path=path)

    return app


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/at/v3", {"sel": "v3"}),
        ("/at/rel%2F1.0", {"sel": "rel/1.0"}),
        ("/at/rel%2f1.0", {"sel": "rel/1.0"}),
        ("/at/sha256:ab", {"sel": "sha256:ab"}),
        ("/at/rel%2F1.0/files/a/b.txt", {"sel": "rel/1.0", "path": "a/b.txt"}),
        ("/at/rel%2F1.0/files/a%2Fb.txt", {"sel": "rel/1.0", "path": "a/b.txt"}),
        ("/at/v1/files/caf%C3%A9%20.md", {"sel": "v1", "path": "café .md"}),
        ("/at/rel%2F1/files/caf%C3%A9%20.md?x=a%2Fb", {"sel": "rel/1", "path": "café .md"}),
        ("/at/v1/files/100%25.txt", {"sel": "v1", "path": "100%.txt"}),
    ],
)
def test_an_encoded_slash_stays_inside_its_segment(app: Flask, url: str, expected: dict[str, str]) -> None:
    assert app.test_client().get(url).get_json() == expected


def test_a_plain_slash_separates(app: Flask) -> None:
    assert app.test_client().get("/at/rel/1.0").status_code == 404


def test_urls_are_built_so_that_they_read_back(app: Flask) -> None:
    with app.test_request_context():
        url = url_for("file", sel="rel/1.0", path="a b/ü.md")
    assert url == "/at/rel%2F1.0/files/a%20b/%C3%BC.md"
    assert app.test_client().get(url).get_json() == {"sel": "rel/1.0", "path": "a b/ü.md"}
