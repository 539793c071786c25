"""One door over two base models: who answers, whose adapters, and what of one the other notices."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapter_cache.store import MemoryStore
from app.door import Door
from app.protos.flora.v1 import flora_pb2 as pb
from contracts.adapters import AdapterManifest, TenantId
from flora.adapter_files import write_adapter
from flora.layout import AdapterLayout
from tests.app.grpc_parts import ask as grpc_ask
from tests.app.grpc_parts import call, code_of, failure, grpc_channel, upload
from tests.app.parts import BASE, CountingReplica, make_client, make_door, publish
from tests.flora.adapters import make_adapter
from tests.flora.layouts import make_group, make_layout

OTHER = "other/v2"
LAYOUTS: Mapping[str, AdapterLayout] = {
    BASE: make_layout(),
    OTHER: make_layout(make_group("mlp", 16, (8,)), fingerprint="0123456789ab-ba9876543210"),
}


class Two:
    """A door over BASE and OTHER, and the replica of each."""

    def __init__(self, **options: Any) -> None:
        self.store = MemoryStore()
        self.replicas = {
            name: CountingReplica(options.pop(f"step_{number}_s", 0.0), layout, f"r{number}")
            for number, (name, layout) in enumerate(LAYOUTS.items())
        }
        self.door: Door = make_door(
            self.replicas[BASE], self.store, more={OTHER: self.replicas[OTHER]}, **options
        )
        self.http = make_client(self.door)

    async def publish(self, base: str, name: str, **options: Any) -> AdapterManifest:
        return await publish(self.store, name, layout=LAYOUTS[base], **options)

    async def put(self, base: str, name: str, model: str | None) -> httpx.Response:
        weights, config = write_adapter(make_adapter(LAYOUTS[base]), "float32")
        files = {"c": ("adapter_config.json", config), "w": ("a.safetensors", weights)}
        params = {} if model is None else {"model": model}
        return await self.http.put(f"/v1/adapters/{name}", files=files, params=params)

    async def ask(self, model: str, **fields: Any) -> httpx.Response:
        body = {"model": model, "prompt": "hi", "max_tokens": 2, **fields}
        return await self.http.post("/v1/completions", json=body)


def error_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def test_each_model_answers_for_itself() -> None:
    two = Two()
    await two.publish(BASE, "ada")
    await two.publish(OTHER, "bob")
    models = (BASE, OTHER, f"{BASE}:ada", f"{OTHER}:bob", f"{OTHER}:bob@1")
    answers = await asyncio.gather(*(two.ask(model) for model in models))
    texts = [answer.json()["choices"][0]["text"] for answer in answers]
    assert texts == ["base0 base1 ", "base0 base1 ", "ada0 ada1 ", "bob0 bob1 ", "bob0 bob1 "]
    for name, own in ((BASE, {"", "ada"}), (OTHER, {"", "bob"})):
        ran = {request.adapter.name for group in two.replicas[name].groups for request in group}
        assert ran == own
    chat = {"model": OTHER, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    before = len(two.replicas[OTHER].groups)
    assert (await two.http.post("/v1/chat/completions", json=chat)).status_code == 200
    assert len(two.replicas[OTHER].groups) == before + 1


@pytest.mark.parametrize("model", ["other", "other/v3", f"{OTHER}x", f"{OTHER}:nobody", "bob", ""])
async def test_names_that_nobody_has(model: str) -> None:
    two = Two()
    await two.publish(OTHER, "bob")
    assert (await two.ask(model)).status_code == (404 if model else 400)


async def test_an_adapter_of_the_other_model_is_refused_and_never_runs() -> None:
    two = Two()
    await two.publish(BASE, "ada")
    await two.publish(OTHER, "bob", tenant=TenantId("them"))
    await two.store.share(TenantId("them"), "bob", TenantId("default"))
    for model, right in (
        (f"{OTHER}:ada", f"{BASE}:ada"),
        (f"{OTHER}:ada@1", f"{BASE}:ada"),
        (f"{BASE}:them/bob", f"{OTHER}:them/bob"),
    ):
        # Its own base is known once a replica has told it, the other's not before it is asked.
        for known in (BASE, OTHER):
            await two.door.models[known].layout()
        answer = await two.ask(model)
        assert error_of(answer) == (400, "wrong_base_model", "model")
        assert f"'{right}'" in answer.json()["error"]["message"]
    async with grpc_channel(two.door) as channel:
        error = await failure(call(channel, "Generate", grpc_ask(model=f"{OTHER}:ada")))
        assert code_of(error) == "wrong_base_model"
    assert not any(replica.groups for replica in two.replicas.values())


async def test_an_adapter_of_somebody_else_is_no_more_than_unknown() -> None:
    two = Two()
    await two.publish(BASE, "ada", tenant=TenantId("them"))
    for model in (f"{OTHER}:ada", f"{OTHER}:them/ada", f"{BASE}:them/ada"):
        assert error_of(await two.ask(model)) == (404, "model_not_found", "model")


async def test_an_upload_says_which_model_it_is_for() -> None:
    two = Two()
    missing = await two.put(BASE, "ada", None)
    assert error_of(missing) == (400, "invalid_request", "model")
    assert f"{BASE}, {OTHER}" in missing.json()["error"]["message"]
    assert error_of(await two.put(BASE, "ada", "nobody")) == (404, "model_not_found", "model")
    assert error_of(await two.put(BASE, "ada", f"{BASE}:x")) == (404, "model_not_found", "model")
    assert (await two.put(BASE, "ada", OTHER)).status_code == 400
    assert (await two.put(BASE, "ada", BASE)).json()["id"] == f"{BASE}:ada"
    assert (await two.put(OTHER, "bob", OTHER)).json()["id"] == f"{OTHER}:bob"
    assert (await two.ask(f"{OTHER}:bob")).status_code == 200


async def test_a_name_stays_with_its_model() -> None:
    two = Two()
    assert (await two.put(BASE, "ada", BASE)).status_code == 200
    taken = await two.put(OTHER, "ada", OTHER)
    assert error_of(taken) == (400, "wrong_base_model", "name")
    assert (await two.ask(f"{BASE}:ada")).status_code == 200
    await two.http.delete("/v1/adapters/ada")
    assert (await two.put(OTHER, "ada", OTHER)).status_code == 200
    # Whose base nobody runs any more stands in nobody's way.
    gone = make_layout(fingerprint="00-00")
    await publish(two.store, "old", layout=gone)
    assert (await two.put(OTHER, "old", OTHER)).status_code == 200


async def test_an_upload_by_grpc_says_it_in_its_header() -> None:
    two = Two()
    weights, config = write_adapter(make_adapter(LAYOUTS[OTHER]), "float32")
    async with grpc_channel(two.door) as channel:
        error = await failure(call(channel, "PublishAdapter", upload("bob", weights, config)))
        assert code_of(error) == "invalid_request"
        first, *rest = upload("bob", weights, config)
        first = pb.PublishAdapterRequest(header=pb.PublishHeader(name="bob", model=OTHER))
        made = await call(channel, "PublishAdapter", iter([first, *rest]))
        assert made.adapter.model == f"{OTHER}:bob"
        listed = await call(channel, "ListAdapters", pb.ListAdaptersRequest())
        assert [adapter.model for adapter in listed.adapters] == [f"{OTHER}:bob"]


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
async def test_all_models_are_listed_once_with_their_adapters(limit: int) -> None:
    two = Two()
    for base, name in ((OTHER, "a"), (BASE, "b"), (OTHER, "c")):
        await two.publish(base, name)
    seen: list[dict[str, Any]] = []
    after, more = "", True
    while more:
        url = f"/v1/models?limit={limit}&after={after}"
        page = (await two.http.get(url)).json()
        seen += page["data"]
        after, more = page["last_id"], page["has_more"]
    ids = [BASE, OTHER, f"{OTHER}:a", f"{BASE}:b", f"{OTHER}:c"]
    assert [entry["id"] for entry in seen] == ids
    assert [entry["parent"] for entry in seen] == [None, None, OTHER, BASE, OTHER]
    adapters = (await two.http.get("/v1/adapters")).json()["data"]
    assert [entry["id"] for entry in adapters] == ids[2:]
    for model_id in ids:
        assert (await two.http.get(f"/v1/models/{model_id}")).json()["id"] == model_id
    assert error_of(await two.http.get(f"/v1/models/{BASE}:a"))[1] == "wrong_base_model"


async def test_what_is_done_to_an_adapter_goes_to_its_model() -> None:
    two = Two()
    await two.publish(OTHER, "bob")
    answer = await two.http.post("/v1/adapters/bob/prefetch")
    await asyncio.sleep(0)
    assert answer.json()["id"] == f"{OTHER}:bob"
    assert [key.name for [key] in two.replicas[OTHER].prefetched] == ["bob"]
    assert two.replicas[BASE].prefetched == []


async def test_a_model_that_is_not_ready_leaves_the_other_alone() -> None:
    two = Two()
    await two.publish(BASE, "ada")
    await two.publish(OTHER, "bob")
    two.replicas[OTHER].ready = False
    ready = await two.http.get("/readyz")
    assert error_of(ready)[:2] == (503, "not_ready")
    assert ready.json()["error"]["message"] == f"Not ready: {OTHER}."
    assert (await two.ask(f"{BASE}:ada")).status_code == 200
    assert error_of(await two.ask(OTHER))[:2] == (503, "not_ready")
    assert error_of(await two.ask(f"{BASE}:bob"))[1] == "wrong_base_model"
    assert (await two.http.get("/v1/models/tiny:ada")).status_code == 200
    # Whose it is cannot be said before the other has told what it runs.
    assert error_of(await two.http.get("/v1/adapters/bob"))[:2] == (503, "not_ready")
    two.replicas[OTHER].ready = True
    assert (await two.http.get("/readyz")).status_code == 200
    assert (await two.http.get("/v1/adapters/bob")).json()["id"] == f"{OTHER}:bob"


async def test_a_page_has_all_replicas_and_sums_of_all_models() -> None:
    two = Two(step_0_s=0.05, step_1_s=0.05)
    asking = [asyncio.create_task(two.ask(model, max_tokens=8)) for model in (BASE, OTHER, OTHER)]
    await asyncio.sleep(0.1)
    families = text_string_to_metric_families((await two.http.get("/metrics")).text)
    samples = {each.name: each.samples for each in families}
    assert [sample.labels for sample in samples["fetches"]] == [
        {"replica": "r0", "model": BASE},
        {"replica": "r1", "model": OTHER},
    ]
    assert [sample.value for sample in samples["flora_running_requests"]] == [3]
    assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    assert sum(part() for part in two.door.metrics.running + two.door.metrics.waiting) == 0


async def test_tokens_are_a_models() -> None:
    two = Two()
    missing = await two.http.post("/v1/tokenize", json={"prompt": "hi"})
    assert error_of(missing) == (400, "invalid_request", "model")
    named = await two.http.post("/v1/tokenize", json={"prompt": "hi", "model": f"{OTHER}:bob"})
    assert named.json()["count"] == 2
    missing = await two.http.post("/v1/detokenize", json={"tokens": [1]})
    assert error_of(missing) == (400, "invalid_request", "model")
