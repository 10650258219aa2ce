"""Run huggingface_hub's own tests against a server of this tree, and write what they came to into the docs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.hf.conftest import native
from tests.hf.suite import sources, verdict
from tests.support.server import RunningServer, clean_env, running_server

USERS = {"USER": "dummy-hub-user", "OTHER_USER": "dv-user", "ENTERPRISE_USER": "enterprise-admin"}
TOKENS = {"USER": "TOKEN", "OTHER_USER": "OTHER_TOKEN", "ENTERPRISE_USER": "ENTERPRISE_TOKEN"}


def people(server: RunningServer) -> dict[str, str]:
    """Make the users that the tests know, and return the constants that tell of them."""
    facts = {"ENDPOINT_STAGING": server.url, "FULL_NAME": USERS["USER"], "ENTERPRISE_ORG": "enterprise-org", **USERS}

    def ask(path: str, body: dict[str, Any], method: str = "POST") -> Any:
        return native(server.url, server.token, method, path, body)

    for constant, user in USERS.items():
        ask("/users", {"name": user})
        made = ask("/tokens", {"name": "suite", "scopes": ["read", "publish", "admin"], "user": user})
        facts[TOKENS[constant]] = made["secret"]
    ask("/namespaces", {"name": facts["ENTERPRISE_ORG"], "private": True})
    ask(f"/namespaces/{facts['ENTERPRISE_ORG']}/members/{USERS['ENTERPRISE_USER']}", {"role": "owner"}, "PUT")
    return facts


def run(folder: Path, *more: str) -> Path:
    """Run the tests; return pytest's XML report."""
    python, package = sources.interpreter(), sources.unpack(folder)
    report = folder / "report.xml"
    with running_server(folder / "server", LORAHUB_RATE_LIMIT="0") as server:
        facts = people(server)
        # Logged in: before its first version, what is on an adapter's main is seen by its author alone.
        env = clean_env(folder) | {
            "HF_ENDPOINT": server.url,
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "SUITE_FACTS": json.dumps(facts),
            "HF_TOKEN": facts["TOKEN"],
        }
        files = [str(package / f"{name}.py") for name in sources.MODULES if (package / f"{name}.py").exists()]
        options = ["-q", "--tb=short", "-p", "no:cacheprovider", "--timeout=120", f"--junitxml={report}", *more]
        subprocess.run([str(python), "-m", "pytest", *options, *files], cwd=folder, env=env, check=False)
    return report


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="hf-suite-") as folder:
        found = verdict.read(run(Path(folder), *sys.argv[1:]))
    verdict.write(found)
    print(found.summary())
    return 1 if found.failed or found.stale else 0


if __name__ == "__main__":
    sys.exit(main())
