"""One prompt as the door admitted it."""

from dataclasses import dataclass

from contracts.access import LOCAL_CALLER, Caller
from contracts.adapters import AdapterKey, AdapterRef
from contracts.generation import GenerateRequest, Sampling


@dataclass(frozen=True, slots=True)
class Ask:
    """`adapter` is None for the base model. `model` is the name that the caller used, for messages.

    `request_id` is unique among the requests in flight, on any ingress. `traceparent` is the W3C
    context of a request that is recorded.
    """

    request_id: str
    model: str
    adapter: AdapterRef | None
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    caller: Caller = LOCAL_CALLER
    traceparent: str = ""

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
        )
