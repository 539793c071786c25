"""A subject behind a server: answers and scores over the OpenAI API."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import httpx

from contracts.errors import CallerError, NotReady, ServiceError
from flora.eval.passages import Passage, Score
from flora.eval.subject import Drawing

_MAX_CHOICES = 16
_TIMEOUT_S = 600.0


class ServedSubject:
    """See flora.eval.subject.Subject. `model` is `base`, `base:adapter` or `base:adapter@version`.

    Scores are the server's `echo` with `logprobs`; where messages are the context, its
    /v1/tokenize applies the chat template. Refusals are CallerError or ServiceError.
    """

    def __init__(
        self,
        url: str,
        key: str,
        model: str,
        concurrency: int = 8,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._url = url.rstrip("/")
        self._connect = partial(
            httpx.Client,
            base_url=self._url,
            headers=headers,
            timeout=_TIMEOUT_S,
            transport=transport,
        )
        self._model = model
        self._concurrency = concurrency

    def answer(self, prompts: Sequence[str], drawing: Drawing) -> list[list[str]]:
        """See Subject. Samples of one prompt are drawn in requests of at most 16."""
        sizes = _parts(drawing.num_samples)
        asks = [
            (prompt, size, replace(drawing, seed=drawing.seed + part * _MAX_CHOICES))
            for prompt in prompts
            for part, size in enumerate(sizes)
        ]
        with self._connect() as http, ThreadPoolExecutor(self._concurrency) as pool:
            answers = list(pool.map(lambda ask: self._answer(http, *ask), asks))
        n = len(sizes)
        groups = (answers[i : i + n] for i in range(0, len(answers), n))
        return [[text for part in group for text in part] for group in groups]

    def score(self, passages: Sequence[Passage]) -> list[Score]:
        """See Subject."""
        with self._connect() as http, ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(lambda passage: self._score(http, passage), passages))

    def _answer(
        self, http: httpx.Client, prompt: str, num_choices: int, drawing: Drawing
    ) -> list[str]:
        body: dict[str, Any] = {
            "model": self._model,
            "n": num_choices,
            "max_tokens": drawing.max_tokens,
            "temperature": drawing.temperature,
            "top_p": drawing.top_p,
            "stop": list(drawing.stop),
            "seed": drawing.seed,
        }
        if drawing.chat:
            asked = {"messages": [{"role": "user", "content": prompt}]}
            choices = self._post(http, "/v1/chat/completions", body | asked)["choices"]
            return [choice["message"]["content"] or "" for choice in choices]
        choices = self._post(http, "/v1/completions", body | {"prompt": prompt})["choices"]
        return [choice["text"] for choice in choices]

    def _score(self, http: httpx.Client, passage: Passage) -> Score:
        if isinstance(passage.context, str):
            given = self._tokens(http, {"prompt": passage.context})
        else:
            given = self._tokens(http, {"messages": passage.context, "add_generation_prompt": True})
        said = self._tokens(http, {"prompt": passage.text, "add_special_tokens": False})
        num_given = len(given) or 1
        body = {
            "model": self._model,
            "prompt": [*given, *said],
            "echo": True,
            "logprobs": 0,
            "max_tokens": 0,
        }
        found = self._post(http, "/v1/completions", body)["choices"][0]["logprobs"]
        unjudged = 0 if given else len(found["tokens"][0].encode())
        chosen = found["token_logprobs"][num_given:]
        return Score(-sum(chosen), len(chosen), len(passage.text.encode()) - unjudged)

    def _tokens(self, http: httpx.Client, body: dict[str, Any]) -> list[int]:
        tokens: list[int] = self._post(http, "/v1/tokenize", body | {"model": self._model})[
            "tokens"
        ]
        return tokens

    def _post(self, http: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = http.post(path, json=body)
        except httpx.HTTPError as error:
            raise NotReady(f"{self._url} does not answer: {error}") from error
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        try:
            message = str(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"HTTP {response.status_code}"
        raise (ServiceError if response.is_server_error else CallerError)(message)


def _parts(num_samples: int) -> list[int]:
    full, rest = divmod(num_samples, _MAX_CHOICES)
    return [_MAX_CHOICES] * full + ([rest] if rest else [])
