"""A request on its way to its last token, over as many replicas as that takes. Pure."""

from dataclasses import dataclass, field, replace

from contracts.errors import EngineFailed, ServingError
from contracts.generation import GenerateRequest, TokenDelta
from contracts.load import TokensLeft

MAX_STRIKES = 2


@dataclass(slots=True)
class Trip:
    """One call's share of a request of a group: all its choices, or one that goes on elsewhere.

    `index` is the request's place in its group, `request` what the replica is asked and `choices`
    what the client calls its choices. A strike is a replica that was lost after its engine had
    taken the request and before a token came of it there. Who has one goes on alone; a second one
    in a row is the last.
    """

    index: int
    request: GenerateRequest
    choices: tuple[int, ...]
    attempt: int = 0
    strikes: int = 0
    is_cancelled: bool = False
    _has_entered: bool = False
    _has_moved: bool = False
    _has_prompt_logprobs: bool = False
    _tokens: list[list[int]] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)
    _left: TokensLeft = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = [list(self.request.resumed_token_ids) for _ in self.choices]
        self._open = set(range(len(self.choices)))
        self._left = TokensLeft(self.request)

    @classmethod
    def first(cls, index: int, request: GenerateRequest) -> "Trip":
        """As the request sets out."""
        return cls(index, request, tuple(range(request.sampling.n)))

    @property
    def is_over(self) -> bool:
        """Whether all choices have ended."""
        return not self._open

    @property
    def num_tokens_left(self) -> int:
        """What it still costs its replica, in tokens."""
        return 0 if self.is_over else self._left.num_tokens

    def take(self, delta: TokenDelta) -> TokenDelta | None:
        """What the replica says, as the group's reader knows it; None where that is nothing."""
        self._has_entered = True
        if delta.entered or delta.choice not in self._open:
            return None
        if delta.error is not None:
            self._open.clear()
            return replace(delta, index=self.index)
        if delta.token_ids:
            self.strikes = 0
            self._has_moved = True
            self._tokens[delta.choice] += delta.token_ids
            self._left.take(len(delta.token_ids))
        self._has_prompt_logprobs |= bool(delta.prompt_logprobs)
        if delta.finish_reason is not None:
            self._open.discard(delta.choice)
        return self._known(delta)

    def lost(self, error: ServingError, max_attempts: int, *, is_planned: bool) -> "Lost":
        """The replica brings nothing more: how it goes on, or why it does not.

        `is_planned`: the replica was on its way out, and no request is to blame.
        """
        is_suspect = self._has_entered and not self._has_moved and not is_planned
        strikes = self.strikes + is_suspect
        if strikes >= MAX_STRIKES:
            error = EngineFailed(
                f"The engine was lost {strikes} times while it worked on this request."
            )
        elif self.attempt + 1 < max_attempts and not self.is_cancelled:
            trips = self._split() if any(self._tokens) else [self._again(self.choices, {})]
            for trip in trips:
                trip.strikes = strikes
            self._open.clear()
            return Lost(trips, None)
        self._open.clear()
        return Lost([], TokenDelta(self.index, error=error))

    def _known(self, delta: TokenDelta) -> TokenDelta:
        choice = self.choices[delta.choice]
        if (delta.index, delta.choice) == (self.index, choice):
            return delta
        return replace(delta, index=self.index, choice=choice)

    def _split(self) -> "list[Trip]":
        """A trip for each choice that has not ended: they stand at different tokens."""
        sampling = self.request.sampling
        trips = []
        for own in sorted(self._open):
            changes = {"n": 1, "prompt_logprobs": None}
            if own == 0 and not self._has_prompt_logprobs:
                changes["prompt_logprobs"] = sampling.prompt_logprobs
            if sampling.n > 1 and sampling.seed is not None:
                # As an engine does when it draws several choices from one seed.
                changes["seed"] = sampling.seed + own
            trips.append(self._again((self.choices[own],), changes, self._tokens[own]))
        return trips

    def _again(
        self,
        choices: tuple[int, ...],
        changes: dict[str, int | None],
        tokens: list[int] | None = None,
    ) -> "Trip":
        first_id = self.request.request_id.partition("~")[0]
        suffix = f"{self.attempt + 1}.{choices[0]}"
        request = replace(
            self.request,
            # The replica that was lost may still be at work on the other id.
            request_id=f"{first_id}~{suffix}",
            sampling=replace(self.request.sampling, **changes),  # type: ignore[arg-type]
            resumed_token_ids=tuple(tokens or ()),
        )
        return Trip(self.index, request, choices, self.attempt + 1)


@dataclass(frozen=True, slots=True)
class Lost:
    """What becomes of a trip whose replica was lost: others in its place, or its last delta."""

    trips: list[Trip]
    last: TokenDelta | None
