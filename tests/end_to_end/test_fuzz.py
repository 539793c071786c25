"""A whole server under hostile requests: no fault of ours, no growth, no stray file.

Callers have a key or none. `--hypothesis-profile=fuzz` tries far more.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from adapter_cache.valkey_server import ValkeyServer
from benchmarks.process_tree import server_process, use_by_role
from benchmarks.served import served
from benchmarks.soak import make_key
from tests.app.hostile_requests import PATHS, content_types, json_bodies, multipart_bodies
from tests.app.parts import make_tokenizer
from tests.end_to_end.echo_server import BASE
from tests.flora.hostile_files import GOOD_CONFIG, GOOD_WEIGHTS

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(900)]

MAX_GROWTH_BYTES = 64 << 20
"""Of the door's memory, from the first round of hostile requests to the last."""
FAULTS = {500, 501, 502}
CI_EXAMPLES = 100
NUM_OPERATION_EXAMPLES = 5
NUM_ROUNDS = 3
NUM_UPLOADS = 30
NUM_BODIES = 8


class Fuzzed:
    """The server, and its two kinds of callers."""

    def __init__(self, url: str, http: httpx.Client, folder: Path, key: str) -> None:
        self.url = url
        self.http = http
        self.folder = folder
        self.key = {"Authorization": f"Bearer {key}"}
        self._process = server_process(int(url.rpartition(":")[2]))

    def door_bytes(self) -> int:
        return use_by_role(self._process)["door"].rss_bytes

    def files(self) -> set[str]:
        """Of the store, where names of adapters become names of files, and beside it."""
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    folder = tmp_path_factory.mktemp("fuzz")
    make_tokenizer().save_pretrained(folder / BASE)
    with ValkeyServer.start(folder / "valkey-0") as valkey:
        stores = [
            f"cache.redis_url={valkey.url}",
            f"cache.object_store_url=file://{folder / 'objects'}",
        ]
        key = make_key(stores)  # It does not start without one.
        settings = [*stores, "auth.required=true", "replica.engine=echo"]
        flags = [part for setting in settings for part in ("--set", setting)]
        with (
            served(folder / BASE, folder, Console(file=sys.stderr), *flags) as url,
            httpx.Client(base_url=url, timeout=30) as http,
        ):
            yield Fuzzed(url, http, folder, key)


def harsh(num_examples: int) -> settings:
    """As many examples, and all the more under a profile that asks for more."""
    times = settings().max_examples / CI_EXAMPLES
    return settings(
        max_examples=max(1, int(num_examples * times)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def assert_no_fault(response: httpx.Response) -> None:
    assert response.status_code not in FAULTS, response.text
    if response.status_code >= 400:
        assert response.json()["error"]["code"], response.text


def operations(fuzzed: Fuzzed) -> list[Any]:
    document = schemathesis.openapi.from_dict(fuzzed.http.get("/openapi.json").json())
    document.config.update(base_url=fuzzed.url)
    return [found.ok() for found in document.get_all_operations() if isinstance(found, Ok)]


def test_every_operation_answers_as_its_document_says(fuzzed: Fuzzed) -> None:
    found = operations(fuzzed)
    assert len(found) > 15
    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    for operation in found:

        @harsh(NUM_OPERATION_EXAMPLES)
        @given(operation.as_strategy(), st.booleans())
        def check(case: Any, has_key: bool) -> None:
            response = case.call(headers=fuzzed.key if has_key else None)
            assert response.status_code not in FAULTS, response.text
            case.validate_response(response, checks=checks)

        check()


def test_hostile_requests_leave_nothing_behind(fuzzed: Fuzzed) -> None:
    http, before_files = fuzzed.http, fuzzed.files()
    sizes: list[int] = []

    @harsh(NUM_UPLOADS)
    @given(content_types(), multipart_bodies())
    def upload(content_type: str, body: bytes) -> None:
        headers = fuzzed.key | (
            {"Content-Type": content_type} if content_type.isprintable() else {}
        )
        answer = http.put("/v1/adapters/fuzz", content=body, headers=headers)
        assert_no_fault(answer)

    def ask(path: str) -> None:
        @harsh(NUM_BODIES)
        @given(json_bodies(PATHS[path]))
        def check(body: bytes) -> None:
            assert_no_fault(http.post(path, content=body, headers=fuzzed.key))

        check()

    for _ in range(NUM_ROUNDS):
        upload()
        for path in PATHS:
            ask(path)
        sizes.append(fuzzed.door_bytes())
    assert sizes[-1] - sizes[0] < MAX_GROWTH_BYTES, sizes
    assert fuzzed.files() - before_files <= {"node"}
    assert not list(Path("/tmp").glob("flora-escaped*"))
    assert not list(fuzzed.folder.rglob("*escaped*"))
    assert http.get("/readyz").status_code == 200


def test_after_all_of_it_an_adapter_can_be_published_and_used(fuzzed: Fuzzed) -> None:
    files = {"c": ("adapter_config.json", GOOD_CONFIG), "w": ("a.safetensors", GOOD_WEIGHTS)}
    http = fuzzed.http
    refused = http.put("/v1/adapters/good", files=files)
    assert refused.status_code == 401
    answer = http.put("/v1/adapters/good", files=files, headers=fuzzed.key)
    assert answer.status_code in (200, 400), answer.text
