"""Answers and adapters as messages."""

from collections.abc import Iterable, Sequence

from app.answer_format import Collected, Usage
from app.model_name import ModelName
from app.protos.flora.v1 import flora_pb2 as pb
from contracts.adapters import AdapterKey, AdapterManifest
from contracts.generation import TokenDelta, TokenLogprob

_FINISH = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
}


def choice_of(index: int, delta: TokenDelta) -> pb.Choice:
    """One delta."""
    made = pb.Choice(
        index=index,
        text=delta.text,
        token_ids=delta.token_ids,
        finish_reason=_FINISH.get(delta.finish_reason or "", pb.FINISH_REASON_UNSPECIFIED),
        logprobs=logprobs_of(delta.logprobs),
    )
    if isinstance(delta.stop_reason, str):
        made.stop = delta.stop_reason
    elif delta.stop_reason is not None:
        made.stop_token_id = delta.stop_reason
    return made


def whole_choice(index: int, collected: Collected) -> pb.Choice:
    """All deltas of a choice as one."""
    made = pb.Choice(index=index)
    for delta in collected.deltas:
        part = choice_of(index, delta)
        text = made.text + part.text
        made.MergeFrom(part)
        made.text = text
    return made


def logprobs_of(tokens: Iterable[TokenLogprob | None]) -> list[pb.TokenLogprob]:
    """Log-probabilities; an empty message where there is none."""
    return [
        pb.TokenLogprob()
        if token is None
        else pb.TokenLogprob(
            token_id=token.token_id,
            token=token.token,
            logprob=token.logprob,
            top=[pb.Alternative(token_id=i, token=text, logprob=lp) for i, text, lp in token.top],
        )
        for token in tokens
    ]


def prompt_logprobs_of(deltas: Sequence[TokenDelta]) -> list[pb.TokenLogprob]:
    """The prompt's, on the burst that has them."""
    return next((logprobs_of(d.prompt_logprobs) for d in deltas if d.prompt_logprobs), [])


def usage_of(usage: Usage) -> pb.Usage:
    """Counts of tokens."""
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
    )


def adapter_version(name: ModelName, key: AdapterKey | None) -> pb.AdapterVersion | None:
    """Which version answers; None for the base model."""
    if key is None or key.is_base:
        return None
    return pb.AdapterVersion(name=name.spelled, version=key.version, digest=key.digest)


def adapter_of(base_model: str, manifest: AdapterManifest) -> pb.Adapter:
    """One version of an adapter."""
    key = manifest.key
    return pb.Adapter(
        model=str(ModelName(base_model, key.name)),
        name=key.name,
        version=key.version,
        digest=key.digest,
        size_bytes=key.size_bytes,
        rank=manifest.rank,
        num_modules=manifest.num_modules,
        base_fingerprint=manifest.base_fingerprint,
        created_at_s=manifest.created_at_s,
    )
