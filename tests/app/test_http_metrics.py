"""What a door counts is what went through it."""

from tests.app.parts import make_client, make_door


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
    assert float(counts["flora_step_messages_total"]) == 5
    assert float(counts["flora_running_requests"]) == 0
