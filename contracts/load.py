"""How much work a request is, in tokens: the measure by which replicas are compared."""

from contracts.generation import GenerateRequest

EXPECTED_TOKENS = 256
"""What is expected of an answer that may be longer: most end long before they must."""


class TokensLeft:
    """What is left to do of one request: its prompt until the first token, then its answer."""

    __slots__ = ("_answer", "_prompt")

    def __init__(self, request: GenerateRequest) -> None:
        num_resumed = len(request.resumed_token_ids)
        self._prompt = request.num_input_tokens
        length = min(request.sampling.max_tokens - num_resumed, EXPECTED_TOKENS)
        self._answer = request.sampling.n * max(1, length)

    @property
    def num_tokens(self) -> int:
        """Tokens left; at least one, whatever has come, until the request is over."""
        return self._prompt + self._answer

    def take(self, num_tokens: int) -> int:
        """So many tokens have come; by how much there is less to do now."""
        before = self.num_tokens
        if num_tokens:
            self._prompt = 0
            self._answer = max(1, self._answer - num_tokens)
        return before - self.num_tokens
