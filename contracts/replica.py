"""What a replica says of itself when it is ready."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """Facts that the door needs before it can admit a request.

    `layout_json` is the `flora.layout.AdapterLayout` of the loaded base model, as JSON text: an
    upload is compiled against it. `max_model_len_tokens` bounds prompt plus answer.
    """

    model: str
    max_model_len_tokens: int
    vocab_size: int
    num_slots: int
    layout_json: str
