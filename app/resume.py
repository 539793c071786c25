"""An answer that goes on behind tokens which its client has already: what may be asked for."""

from collections.abc import Sequence

from contracts.errors import InvalidRequest
from contracts.generation import Sampling

FIELD = "resume_token_ids"
"""What HTTP and gRPC call the tokens."""


def require_resumable(token_ids: Sequence[int], sampling: Sampling, vocab_size: int) -> None:
    """Raises InvalidRequest where an answer under `sampling` cannot begin with `token_ids`.

    The sampling is that of the whole answer. No tokens are the beginning of every answer.
    """
    if not token_ids:
        return
    if max(token_ids) >= vocab_size:
        raise InvalidRequest(f"'{FIELD}': token ids must be below {vocab_size}", FIELD)
    if sampling.n != 1:
        raise InvalidRequest(f"'{FIELD}' belong to one answer: ask for no more", FIELD)
    if sampling.prompt_logprobs is not None:
        raise InvalidRequest(f"'{FIELD}' and 'prompt_logprobs' cannot be used together", FIELD)
    if len(token_ids) >= sampling.max_tokens:
        raise InvalidRequest(
            f"'{FIELD}' are {len(token_ids)} tokens of at most {sampling.max_tokens} that the "
            "whole answer may have: nothing is left to add",
            FIELD,
        )
