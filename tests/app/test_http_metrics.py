"""What a door counts is what went through it."""

from prometheus_client.parser import text_string_to_metric_families

from tests.app.parts import CountingReplica, make_client, make_door


async def test_counts_follow_a_request() -> None:
    async with make_client(make_door()) as client:
        body = {"model": "tiny", "prompt": "abc", "max_tokens": 5}
        answer = await client.post("/v1/completions", json=body)
        assert answer.json()["usage"]["completion_tokens"] == 5
        text = (await client.get("/metrics")).text
    counts = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(counts["flora_requests_total"]) == 1
    assert float(counts["flora_windows_total"]) == 1
    assert float(counts["flora_generated_tokens_total"]) == 5
    assert float(counts["flora_running_requests"]) == 0


async def test_replicas_are_told_apart() -> None:
    async with make_client(make_door()) as client:
        page = await client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    families = {f.name: f for f in text_string_to_metric_families(page.text)}
    assert families["fetches"].samples[0].labels == {"replica": "r0"}
    assert families["flora_windows"].samples[0].labels == {}


async def test_a_replica_that_does_not_answer_costs_only_its_own_counts() -> None:
    replica = CountingReplica()
    replica.ready = False
    door = make_door(replica, metrics_timeout_s=0.02)
    async with make_client(door) as client:
        page = await client.get("/metrics")
    assert page.status_code == 200
    assert "flora_windows_total" in page.text
    assert "fetches" not in page.text


async def test_look_ups_are_timed_whether_they_succeed_or_not() -> None:
    async with make_client(make_door()) as client:
        for model in ("tiny", "tiny:nobody"):
            await client.post("/v1/completions", json={"model": model, "prompt": "abc"})
        text = (await client.get("/metrics")).text
    assert "flora_registry_resolve_seconds_count 1.0" in text
    assert 'flora_registry_resolve_seconds_bucket{le="+Inf"} 1.0' in text
