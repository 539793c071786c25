"""Names of adapters as one of several base models sees them: those of the others are refused."""

from collections.abc import Mapping, Sequence

from app.model_name import wrong_base
from app.window import Resolver
from contracts.adapters import AdapterKey, AdapterRef
from contracts.errors import ServingError

Found = AdapterKey | ServingError | None


class OwnAdapters:
    """The Resolver of the model called `model`: WrongBaseModel for what is made for another one.

    `bases` has the fingerprint of each model's base, as far as it is known. An engine whose own is
    not known yet tells by the row itself.
    """

    def __init__(self, adapters: Resolver, model: str, bases: Mapping[str, str]) -> None:
        self._adapters = adapters
        self._model = model
        self._bases = bases

    async def resolve(self, refs: Sequence[AdapterRef]) -> Sequence[Found]:
        """See Resolver."""
        found = await self._adapters.resolve(refs)
        own = self._bases.get(self._model)
        return [self._own(ref, key, own) for ref, key in zip(refs, found, strict=True)]

    def _own(self, ref: AdapterRef, key: Found, own: str | None) -> Found:
        if not isinstance(key, AdapterKey) or own is None or key.base in ("", own):
            return key
        right = next((name for name, base in self._bases.items() if base == key.base), None)
        spelled = ref.name if ref.reader is None else f"{ref.tenant}/{ref.name}"
        return wrong_base(spelled, self._model, right)
