"""`flora serve` beyond the loopback, as a process: it needs keys, and takes them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.app.test_local import free_port, running, write_demo


def flora(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app.cli", *words]
    command += ["--set", f"cache.valkey_dir={folder / 'valkey'}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.redis
def test_beyond_the_loopback_no_server_starts_without_keys(tmp_path: Path) -> None:
    serve = ("serve", "--engine", "echo", "--model", "org/name", "--host", "0.0.0.0")
    at = ("--port", str(free_port()))
    keyless = flora(tmp_path, *serve, *at)
    assert (keyless.returncode, "flora keys create" in keyless.stderr) == (3, True)
    opened = flora(tmp_path, *serve, *at, "--set", "auth.required=false")
    assert (opened.returncode, "auth.required" in opened.stderr) == (1, True)
    demo = flora(tmp_path, *serve, *at, "--demo", str(tmp_path))
    assert (demo.returncode, "FLORA_API_KEY" in demo.stderr) == (1, True)


@pytest.mark.ray
@pytest.mark.redis
@pytest.mark.slow
def test_a_server_for_others_takes_keys_until_they_are_revoked(tmp_path: Path) -> None:
    made = json.loads(flora(tmp_path, "keys", "create", "--scope", "admin", "--json").stdout)
    url = f"http://127.0.0.1:{(port := free_port())}"
    header = {"authorization": f"Bearer {made['key']}"}
    demo = ("--demo", str(write_demo(tmp_path / "demo")))
    with running(tmp_path, port, "--host", "0.0.0.0", "--key", made["key"], *demo):
        for path in ("/v1/models", "/v1/adapters", "/metrics"):
            assert httpx.get(url + path).status_code == 401
            assert httpx.get(url + path, headers=header).status_code == 200
        body = {"model": "tiny:one", "prompt": "ab", "max_tokens": 2}
        assert httpx.post(f"{url}/v1/completions", json=body).status_code == 401
        answer = httpx.post(f"{url}/v1/completions", json=body, headers=header)
        assert (answer.status_code, answer.json()["model"]) == (200, "tiny:one")
        scope = ("--tenant", "acme", "--scope", "generate", "--json")
        other = json.loads(flora(tmp_path, "keys", "create", *scope).stdout)
        others = {"authorization": f"Bearer {other['key']}"}
        shared = {**body, "model": "tiny:default/one"}
        asked = httpx.post(f"{url}/v1/completions", json=shared, headers=others)
        assert asked.status_code == 404
        share = httpx.put(f"{url}/v1/adapters/one/shares/acme", headers=header)
        assert share.json()["shared_with"] == ["acme"]
        asked = httpx.post(f"{url}/v1/completions", json=shared, headers=others)
        assert asked.status_code == 200
        assert flora(tmp_path, "keys", "revoke", made["key_id"]).returncode == 0
        time.sleep(3.2)
        assert httpx.get(f"{url}/v1/models", headers=header).status_code == 401
        assert httpx.get(f"{url}/v1/models", headers=others).status_code == 200
