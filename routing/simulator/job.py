"""One request on its way through the simulated system."""

from dataclasses import dataclass
from math import nan

DEVICE, NODE, REDIS = range(3)
"""Where a request's adapter was when the request reached its replica."""


@dataclass(slots=True, eq=False)
class Job:
    """What it asks for, where it is, and what became of it.

    `adapter` is a word of 64 bits, 0 for the base model. `luck` is a draw of the standard normal
    distribution: how lucky its fetches are, whichever replica makes them. `replica_load_tokens` is
    what its replica had to do for all doors when it last said something of this request. After the
    loss of a replica it goes on elsewhere: `prompt_tokens` have grown by what was `generated`, and
    `answer_tokens` are those to come.
    """

    number: int
    door: int
    arrived_s: float
    adapter: int
    prompt_tokens: int
    answer_tokens: int
    luck: float = 0.0
    expected_tokens: float = 0.0
    replica: int = -1
    replica_load_tokens: float = 0.0
    tier: int = DEVICE
    prompt_left: int = 0
    end_step: int = 0
    generated: int = 0
    num_losses: int = 0
    first_token_s: float = nan
    ended_s: float = nan

    @property
    def cost_tokens(self) -> float:
        """What the door takes it to cost: it does not know how long the answer gets."""
        return self.prompt_tokens + self.expected_tokens

    def move_on(self, generated: int) -> None:
        """Its replica is gone, and so many more tokens had reached the client."""
        self.generated += generated
        self.prompt_tokens += generated
        self.answer_tokens -= generated
        self.num_losses += 1
        self.replica = -1
