"""Uploads of LoRA adapters: taken where the engine takes them, else refused with what to do."""

from typing import Any

import httpx

from adapter_cache.store import MemoryStore
from flora.lora_row import LoraHeader
from tests.app.parts import CountingReplica, make_client, make_door
from tests.flora.layouts import make_layout
from tests.flora.loras import make_config, make_factors, make_lora_layout, make_weights

WEIGHTS = make_weights(make_factors(make_lora_layout(make_layout()), rank=2))


async def put(store: MemoryStore, lora_rank: int, config: bytes) -> httpx.Response:
    files: dict[str, Any] = {
        "weights": ("adapter_model.safetensors", WEIGHTS),
        "config": ("adapter_config.json", config),
    }
    door = make_door(CountingReplica(lora_rank=lora_rank), store)
    async with make_client(door) as client:
        return await client.put("/v1/adapters/mine", files=files)


async def test_a_lora_becomes_a_version_like_any_other() -> None:
    store = MemoryStore()
    made = (await put(store, 8, make_config())).json()
    assert (made["id"], made["version"], made["rank"]) == ("tiny:mine", 1, 2)
    blob = await store.fetch(made["digest"])
    assert blob is not None
    assert LoraHeader.read(blob).ranks == (2, 2, 2)
    again = (await put(store, 8, make_config(lora_alpha=8))).json()
    assert (again["version"], again["digest"] == made["digest"]) == (2, False)


async def test_where_none_are_taken_the_answer_says_what_to_do() -> None:
    refused = await put(MemoryStore(), 0, make_config())
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == "peft_type"
    assert "replica.lora_rank" in error["message"]
    assert "flora convert" in error["message"]


async def test_one_of_too_high_a_rank_or_of_another_kind_is_refused_with_the_reason() -> None:
    for rank, changes, part in (
        (1, {}, "this server takes at most 1 (replica.lora_rank)"),
        (8, {"use_dora": True}, "DoRA"),
    ):
        refused = await put(MemoryStore(), rank, make_config(**changes))
        assert 400 <= refused.status_code < 500
        assert part in refused.json()["error"]["message"]
