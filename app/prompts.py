"""Chat templates and tokenisation, with the fast tokenizer of the model folder; no torch."""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
from jinja2 import TemplateError

from contracts.errors import InvalidRequest, PromptTooLong

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_NUM_THREADS = 2
_PLAIN = "TokenizersBackend"
"""The class that transformers writes beside a tokenizer.json that needs no code of a model."""
_KWARGS = "chat_template_kwargs"
_OPTIONS = {"tools", "add_generation_prompt", "continue_final_message"}


class Prompts:
    """Text and chats to token ids.

    Texts of more than `max_inline_characters` are tokenised on a thread, so that no prompt holds
    up the event loop.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", *, max_inline_characters: int = 4096
    ) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._reserved = {*inspect.signature(tokenizer.apply_chat_template).parameters, "messages"}
        self._max_inline_characters = max_inline_characters
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="tokenize")

    @classmethod
    def load(cls, model: str | Path) -> Self:
        """From a model folder or a Hugging Face name."""
        # A second, which the process that only describes the deployment does not pay.
        from transformers import PreTrainedTokenizerFast

        if _is_plain(Path(model)):
            return cls(PreTrainedTokenizerFast.from_pretrained(str(model)))
        # Three seconds more and 200 MB: it brings torch.
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(model), use_fast=True)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise TypeError(f"'{model}' has no fast tokenizer (tokenizer.json)")
        return cls(tokenizer)

    @property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The whole of it, for who knows how to read with it."""
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return len(self._tokenizer)

    async def encode_text(self, text: str, *, specials: bool = True) -> tuple[int, ...]:
        """Ids of a plain prompt, with the special tokens that the model expects around it."""
        return await self._off_loop(len(text), lambda: self._encode(text, specials=specials))

    async def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any] | None = None,
        *,
        specials: bool = False,
    ) -> tuple[int, ...]:
        """Ids of a conversation (`role`, `content`) up to where the assistant is to speak.

        `options` go to the template: `tools`, `add_generation_prompt` and whatever the template
        itself knows. The template writes the special tokens; `specials` adds them once more.
        Raises InvalidRequest where the model has no template or its template refuses the messages.
        """
        given = {"add_generation_prompt": True, **(options or {})}
        num_characters = sum(len(message["content"]) for message in messages)
        if given.get("tools"):
            num_characters += self._max_inline_characters
        return await self._off_loop(
            num_characters, lambda: self._encode(self._render(messages, given), specials=specials)
        )

    def spell(self, token_ids: Sequence[int]) -> list[str]:
        """Each token by its name in the vocabulary."""
        return [str(name) for name in self._tokenizer.convert_ids_to_tokens(list(token_ids))]

    async def decode_text(self, token_ids: Sequence[int]) -> str:
        """`decode`, of any number of them."""
        if len(token_ids) <= self._max_inline_characters:
            return self.decode(token_ids)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.decode, token_ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=False))

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _encode(self, text: str, *, specials: bool) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=specials).ids)

    def _render(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
        if not self._tokenizer.chat_template:
            raise InvalidRequest(
                "This model has no chat template: use /v1/completions.", "messages"
            )
        self._require_own_names(options)
        try:
            text: Any = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, **options
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise InvalidRequest(f"The chat template refused it: {error}", "messages") from error
        return str(text)

    def _require_own_names(self, options: Mapping[str, Any]) -> None:
        """A client's options are for the template, never for the tokenizer's own machinery."""
        for name in options.keys() - _OPTIONS:
            if name in self._reserved or not name.isidentifier():
                raise InvalidRequest(f"'{name}' cannot be given to the template", _KWARGS)

    async def _off_loop(
        self, num_characters: int, work: Callable[[], tuple[int, ...]]
    ) -> tuple[int, ...]:
        if num_characters <= self._max_inline_characters:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def room_for_answer(
    num_prompt_tokens: int, max_tokens: int | None, max_model_len_tokens: int
) -> int:
    """How many tokens the answer may have; None asks for all that is left.

    Raises InvalidRequest for an empty prompt, PromptTooLong where the two do not fit.
    """
    if num_prompt_tokens == 0:
        raise InvalidRequest("The prompt has no tokens.", "prompt")
    left = max_model_len_tokens - num_prompt_tokens
    wanted = left if max_tokens is None else max_tokens
    if left < 1 or wanted > left:
        asked = "" if max_tokens is None else f" and {max_tokens} for the answer"
        raise PromptTooLong(
            f"This model's context is {max_model_len_tokens} tokens, but the request needs "
            f"{num_prompt_tokens} for the prompt{asked}.",
            "prompt" if left < 1 else "max_tokens",
        )
    return wanted


def _is_plain(model: Path) -> bool:
    """Whether the folder itself says that its tokenizer.json is all there is to its tokenizer."""
    try:
        config = orjson.loads((model / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    is_dict = isinstance(config, dict)
    return is_dict and config.get("tokenizer_class") == _PLAIN and "auto_map" not in config
