"""The door over the real replica with the echo engine, in one process."""

from pathlib import Path

from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from adapter_cache.store import MemoryStore
from flora.adapter_files import write_adapter
from flora.layout import AdapterLayout
from replicas.echo_engine import EchoEngine
from replicas.replica import Replica
from tests.app.parts import make_client, make_door
from tests.flora.adapters import make_adapter


class Measured(Replica):
    """With the method that the deployment adds."""

    async def metrics(self) -> tuple[str, bytes]:
        return "r", b""


async def test_what_is_published_is_fetched_and_answers(tmp_path: Path) -> None:
    store = MemoryStore()
    fetcher = AdapterFetcher(NodeCache(tmp_path, 10**6), [store], limits=FetchLimits())
    replica = Measured(EchoEngine(), fetcher)
    layout = AdapterLayout.from_json((await replica.start()).layout_json)
    async with make_client(make_door(replica, store)) as client:
        for version in (1, 2):
            weights, config = write_adapter(make_adapter(layout, seed=version), "float32")
            files = {"c": ("adapter_config.json", config), "w": ("a.safetensors", weights)}
            made = (await client.put("/v1/adapters/mine", files=files)).json()
            assert made["version"] == version
            texts = []
            for model in ("tiny", "tiny:mine", f"tiny:mine@{version}", "tiny:mine@1"):
                body = {"model": model, "prompt": [7], "max_tokens": 1}
                answer = await client.post("/v1/completions", json=body)
                texts.append(answer.json()["choices"][0]["text"])
            assert texts[:3] == ["7 ", f"7:{made['digest'][:8]} ", f"7:{made['digest'][:8]} "]
            assert (texts[3] == texts[2]) == (version == 1)
