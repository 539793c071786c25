"""One prompt as the door admitted it."""

from dataclasses import dataclass, field

from contracts.access import LOCAL_CALLER, Caller
from contracts.adapters import AdapterKey, AdapterRef
from contracts.generation import GenerateRequest, Sampling


@dataclass(frozen=True, slots=True)
class Ask:
    """`adapter` is None for the base model. `model` is the name that the caller used, for messages.

    `request_id` is unique among the requests in flight, on any ingress. `traceparent` is the W3C
    context of a request that is recorded. `resumed_token_ids` are the first tokens of the answer,
    which the client has already. `audio` is 16 kHz mono int16 PCM, for a model that listens.
    """

    request_id: str
    model: str
    adapter: AdapterRef | None
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    caller: Caller = LOCAL_CALLER
    traceparent: str = ""
    resumed_token_ids: tuple[int, ...] = ()
    audio: bytes = field(default=b"", repr=False)

    @property
    def num_input_tokens(self) -> int:
        """Tokens that the engine reads before it makes one: all that come from the client."""
        return len(self.prompt_token_ids) + len(self.resumed_token_ids)

    @property
    def max_new_tokens(self) -> int:
        """Tokens that the engine may make, of each choice."""
        return self.sampling.max_tokens - len(self.resumed_token_ids)

    def request(self, key: AdapterKey) -> GenerateRequest:
        """What a replica is asked, once the adapter's bytes are known."""
        return GenerateRequest(
            self.request_id,
            key,
            self.prompt_token_ids,
            self.sampling,
            self.caller.tenant,
            self.caller.weight,
            self.traceparent,
            self.resumed_token_ids,
            self.audio,
        )
