"""huggingface_hub's tests, out of the source package of the release that is installed, and what runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

from tests.hf.environments import OWN, ROOT

PACKAGE = "hf_suite"
NEEDS = ("pytest", "pytest-mock", "pytest-asyncio", "pytest-timeout", "jinja2", "jedi", "numpy", "pillow", "fastapi")
# What speaks to a server, of the release's test modules; the others test the client alone.
MODULES = (
    *("test_cli", "test_commit_api", "test_commit_scheduler", "test_copy_files", "test_file_download", "test_hf_api"),
    *(
        "test_hf_file_system",
        "test_hub_mixin",
        "test_lfs",
        "test_repocard",
        "test_snapshot_download",
        "test_tree_cache",
    ),
    *("test_upload_pipeline", "test_utils_http", "test_utils_pagination"),
    *("test_verification", "test_xet_download", "test_xet_progress_reporting", "test_xet_upload"),
    *("test_local_folder", "test_offline_utils", "test_shared_blobs", "test_cache_layout", "test_endpoint_helpers"),
)


def interpreter() -> Path:
    """Return the interpreter of the suite's own environment; make it first where it is missing."""
    python = ROOT / f"hf-suite-{OWN}" / "bin" / "python"
    if not python.exists():
        venv.create(python.parents[1], with_pip=True)
        wanted = [f"huggingface_hub=={OWN}", *NEEDS]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True)
    return python


def unpack(folder: Path) -> Path:
    """Put the release's tests into `folder` as a package, with our conftest; return the package's folder."""
    command = ["-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    subprocess.run([sys.executable, *command, "-d", str(folder), f"huggingface_hub=={OWN}"], check=True)
    (archive,) = folder.glob("huggingface_hub-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "source", filter="data")
    package = folder / PACKAGE
    shutil.copytree(folder / "source" / f"huggingface_hub-{OWN}" / "tests", package)
    (package / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("fixtures.py"), package / "conftest.py")
    return package
