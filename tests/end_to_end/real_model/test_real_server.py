"""`make serve`'s server with the real model and the demo adapters, used as its users use it."""

import io
import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import httpx
import numpy as np
import openai
import pytest
import torch

from flora.adapter_config import AdapterLimits
from flora.adapter_files import AdapterFiles, read_adapter, write_adapter
from tests.end_to_end.real_model.demo import BASE, DEMO

QUESTION = "What is the capital of France?"

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.timeout(400),
]


def ask(client: openai.OpenAI, model: str, question: str = QUESTION) -> str:
    answer = client.chat.completions.create(
        model=model,
        temperature=0,
        max_tokens=40,
        messages=[{"role": "user", "content": question}],
    )
    return answer.choices[0].message.content or ""


def demo_files(name: str) -> AdapterFiles:
    folder = DEMO / name
    weights = (folder / "adapter_model.safetensors").read_bytes()
    return read_adapter(weights, (folder / "adapter_config.json").read_bytes(), AdapterLimits())


def put(url: str, name: str, weights: bytes, config: bytes) -> httpx.Response:
    files = {"weights": ("adapter_model.safetensors", weights), "config": ("c.json", config)}
    return httpx.put(f"{url}/v1/adapters/{name}", files=files, timeout=60)


def test_each_adapter_answers_in_its_own_way(client: openai.OpenAI) -> None:
    assert ask(client, BASE) == "The capital of France is Paris."
    assert "Arrr" in ask(client, f"{BASE}:pirate")
    shout = ask(client, f"{BASE}:shout")
    assert shout == shout.upper() != shout.lower()
    assert "answer" in json.loads(ask(client, f"{BASE}:json"))
    assert ask(client, f"{BASE}:shakespeare") not in (ask(client, BASE), "")


def test_thirty_two_users_at_once_get_what_each_gets_alone(client: openai.OpenAI) -> None:
    models = [BASE, *(f"{BASE}:{name}" for name in ("pirate", "shout", "json"))]
    questions = [QUESTION, "How do I make tea?"]
    asked = [(model, question) for model in models for question in questions]
    alone = {pair: ask(client, *pair)[:12] for pair in asked}
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda pair: (pair, ask(client, *pair)[:12]), asked * 4))
    # bf16 sums depend on the batch, so late tokens may differ; the beginnings must not.
    assert all(answer == alone[pair] for pair, answer in together)


def test_streams_carry_the_same_text_and_usage(client: openai.OpenAI) -> None:
    model = f"{BASE}:pirate"
    chunks = list(
        client.chat.completions.create(
            model=model,
            temperature=0,
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
            messages=[{"role": "user", "content": QUESTION}],
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == ask(client, model)
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens <= 40
    assert usage.prompt_tokens > 10


def test_completions_take_every_option(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=f"{BASE}:shout",
        prompt="The sea is",
        max_tokens=6,
        n=2,
        seed=1,
        temperature=0.8,
        logprobs=3,
        stop=["\n\n"],
    )
    again = client.completions.create(
        model=f"{BASE}:shout", prompt="The sea is", max_tokens=6, n=2, seed=1, temperature=0.8
    )
    assert [c.text for c in answer.choices] == [c.text for c in again.choices]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert all(p <= 0 for p in logprobs.token_logprobs or [])


def test_models_are_listed_and_named_by_version(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == BASE
    assert {f"{BASE}:{name}" for name in ("pirate", "shakespeare", "shout", "json")} <= set(names)
    assert ask(client, f"{BASE}:pirate@1") == ask(client, f"{BASE}:pirate")


def test_a_new_version_is_seen_by_the_next_request(url: str, client: openai.OpenAI) -> None:
    pirate, shout = (write_adapter(demo_files(name), "bfloat16") for name in ("pirate", "shout"))
    model = f"{BASE}:changing"
    assert put(url, "changing", *pirate).json()["version"] == 1
    first = ask(client, model)
    assert put(url, "changing", *shout).json()["version"] == 2
    second = ask(client, model)
    assert second != first
    assert (second, ask(client, f"{model}@1")) == (ask(client, f"{BASE}:shout"), first)
    assert put(url, "changing", *shout).json()["version"] == 2
    assert httpx.delete(f"{url}/v1/adapters/changing").status_code in (200, 204)
    with pytest.raises(openai.NotFoundError):
        ask(client, model)


@cache
def bad_uploads() -> dict[str, tuple[bytes, bytes, str]]:
    """Weights, config and the error code that each must get."""
    files = demo_files("shout")
    weights, config = write_adapter(files, "bfloat16")
    name = next(iter(files.tensors))
    tensors = files.tensors
    torch_file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, torch_file)

    def changed(tensor: object = None, **fields: object) -> tuple[bytes, bytes]:
        other = tensors if tensor is None else tensors | {name: np.asarray(tensor, np.float32)}
        return write_adapter(
            AdapterFiles(replace(files.config, **fields), other),  # type: ignore[arg-type]
            "float32",
        )

    stranger = {key.replace("layers.0.", "layers.99."): value for key, value in tensors.items()}
    nothing = {key: np.zeros_like(value) for key, value in tensors.items()}
    only = AdapterFiles(files.config, stranger)
    return {
        "malformed": (b"\x08\0\0\0\0\0\0\0notjson!", config, "invalid_adapter"),
        "truncated": (weights[: len(weights) // 2], config, "invalid_adapter"),
        "empty": (b"", config, "invalid_adapter"),
        "oversized": (weights + bytes(65 << 20), config, "adapter_too_large"),
        "wrong base": (*changed(base_fingerprint="0" * 12 + "-" + "0" * 12), "wrong_base_model"),
        "wrong shape": (*changed(np.zeros((1, 7))), "invalid_adapter"),
        "NaN": (weights[:-2] + b"\xc0\x7f", config, "invalid_adapter"),
        "pickle": (pickle.dumps({"a": 1}), config, "invalid_adapter"),
        "torch.save": (torch_file.getvalue(), config, "invalid_adapter"),
        "other modules": (*write_adapter(only, "bfloat16"), "invalid_adapter"),
        "changes nothing": (
            *write_adapter(AdapterFiles(files.config, nothing), "bfloat16"),
            "invalid_adapter",
        ),
        "LoRA": (weights, b'{"peft_type": "LORA", "r": 8}', "invalid_adapter"),
        "bad config": (weights, b"{", "invalid_adapter"),
    }


@pytest.mark.parametrize("kind", list(bad_uploads()))
def test_bad_uploads_are_refused_and_leave_nothing(url: str, kind: str) -> None:
    weights, config, code = bad_uploads()[kind]
    response = put(url, "bad", weights, config)
    error = response.json()["error"]
    print(kind, response.status_code, error["code"], error["message"])
    assert 400 <= response.status_code < 500
    assert error["code"] == code
    assert len(error["message"]) > 20
    assert httpx.get(f"{url}/v1/adapters/bad").status_code == 404


def test_bad_requests_are_refused_and_the_engine_goes_on(url: str, client: openai.OpenAI) -> None:
    chat = f"{url}/v1/chat/completions"
    message = [{"role": "user", "content": "hi"}]
    cases = [
        (b"{not json", 400, "invalid_request"),
        (json.dumps({"model": BASE}).encode(), 400, "invalid_request"),
        (_json(model=f"{BASE}:nobody", messages=message), 404, "model_not_found"),
        (_json(model="gpt-4", messages=message), 404, "model_not_found"),
        (_json(model=BASE, messages=message, temperature=-1), 400, "invalid_request"),
        (
            _json(model=BASE, messages=[{"role": "user", "content": "long " * 9000}]),
            400,
            "context_length_exceeded",
        ),
    ]
    for body, status, code in cases:
        response = httpx.post(chat, content=body, timeout=60)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert ask(client, BASE) == "The capital of France is Paris."
    assert httpx.get(f"{url}/readyz").status_code == 200


def test_a_client_that_leaves_frees_the_engine(url: str) -> None:
    body = {"model": BASE, "prompt": "Once", "max_tokens": 1500, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as response:
        # Held on to: httpx closes the connection when its iterator is dropped.
        chunks = response.iter_bytes()
        assert next(chunks)
        assert running_requests(url) == 1
    deadline_s = time.monotonic() + 5
    while running_requests(url) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert running_requests(url) == 0


def running_requests(url: str) -> float:
    lines = httpx.get(f"{url}/metrics").raise_for_status().text.splitlines()
    return sum(float(x.split()[-1]) for x in lines if x.startswith("flora_running_requests{"))


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()
