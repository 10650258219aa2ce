"""With an object store, the bytes of weights go straight there, and come straight from there."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.refs import AdapterName
from tests.hf.counting_proxy import Counter, counting_proxy
from tests.hf.large_adapter import large_adapter
from tests.hf.threaded_app import ThreadedApp, threaded_app
from tests.support.server import clean_env

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo(sys.argv[1], exist_ok=True)
api.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])
"""
DOWNLOAD = "import sys; from huggingface_hub import snapshot_download as s; print(s(sys.argv[1], revision='v1'))"


@pytest.fixture(scope="module")
def in_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThreadedApp, Counter]]:
    """A server whose blobs are in (moto's) S3, behind a proxy that counts what comes through the server."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3")
    store = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    store.start()
    host, port = store.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="weights")
        data = tmp_path_factory.mktemp("s3")
        with (
            threaded_app(data, store=f"s3://weights/registry?endpoint={endpoint}") as app,
            counting_proxy(app.url) as counter,
        ):
            yield app, counter
    store.stop()


def run(in_s3: tuple[ThreadedApp, Counter], home: Path, script: str, *args: str, **env: str) -> str:
    app, counter = in_s3
    given = clean_env(home) | {"HF_ENDPOINT": counter.url, "HF_TOKEN": app.token} | env
    done = subprocess.run([sys.executable, "-c", script, *args], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("way", ["lfs", "xet"])
def test_weights_reach_the_store_and_come_back(in_s3: tuple[ThreadedApp, Counter], tmp_path: Path, way: str) -> None:
    _, counter = in_s3
    folder = large_adapter(tmp_path / "adapter", 20_000_000, seed=len(way) + ord(way[0]))
    weights = folder / "adapter_model.safetensors"
    counter.forget()
    run(in_s3, tmp_path / "up", UPLOAD, f"admin/{way}", str(folder), HF_HUB_DISABLE_XET="1" if way == "lfs" else "0")
    through_us = sum(seen.body_bytes for seen in counter.seen)
    assert through_us < 100_000 if way == "lfs" else through_us > weights.stat().st_size / 2
    counter.forget()
    found = Path(run(in_s3, tmp_path / "down", DOWNLOAD, f"admin/{way}"))
    assert (found / weights.name).read_bytes() == weights.read_bytes()
    redirected = [seen for seen in counter.seen if seen.status == 302 and seen.path.endswith(weights.name)]
    assert redirected


def test_an_upload_that_was_broken_off_starts_again(in_s3: tuple[ThreadedApp, Counter], tmp_path: Path) -> None:
    """Clients can't send only the parts that are missing: they are given all of them."""
    app, _ = in_s3
    folder = large_adapter(tmp_path / "adapter", 36_000_000, seed=99)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    actor = app.registry.tokens.authenticate(app.token)
    name = AdapterName.parse("admin/broken-off")
    upload = app.registry.uploads.start(actor, name, hashlib.sha256(weights).hexdigest(), len(weights))
    assert len(upload.parts) > 1
    binary = {"Content-Type": "application/octet-stream"}
    puts = [
        urllib.request.Request(part.url, weights[upload.part_size * (part.number - 1) :][: upload.part_size], binary)
        for part in upload.parts
    ]
    for put in puts:
        put.method = "PUT"
    urllib.request.urlopen(puts[0], timeout=60).close()
    run(in_s3, tmp_path / "up", UPLOAD, str(name), str(folder), HF_HUB_DISABLE_XET="1")
    assert app.registry.adapters.get(actor, name).latest == 1
    # Whoever sends the first one may be at it still: it goes on beside the other.
    urllib.request.urlopen(puts[1], timeout=60).close()
