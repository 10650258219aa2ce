"""`python -m hub.web.api` prints the API's description (OpenAPI 3, JSON), as a running server gives it."""

from __future__ import annotations

import json
import sys

from flask import Flask

from ..http.raw_path import CONVERTERS
from . import openapi_document, register_api


def main() -> None:
    app = Flask("hub.web")
    app.url_map.converters.update(CONVERTERS)
    register_api(app)
    with app.app_context():
        json.dump(openapi_document(), sys.stdout, indent=2, sort_keys=True)


if __name__ == "__main__":
    main()
