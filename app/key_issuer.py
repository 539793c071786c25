"""Makes, changes and lists API keys: first in the object store, then in the copy that is asked."""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Protocol

from app.api_key import (
    KEY_ID,
    KEY_ID_BYTES,
    SECRET_BYTES,
    ApiKey,
    SecretHash,
    check_key,
    hash_secret,
    key_text,
)
from app.keyring import KeyStore
from contracts.errors import AdapterCorrupt, InvalidRequest, StoreUnavailable

_LOG = logging.getLogger(__name__)


class KeyRecords(KeyStore, Protocol):
    """The KeyStore that is the truth, and knows all keys."""

    def key_ids(self) -> AsyncIterator[str]:
        """Every key id, revoked ones included."""
        ...


class KeyIssuer:
    """Changes of keys. `random_hex` and `random_text` give as many random bytes as they are asked
    for, as hex digits and as base64; `clock` gives Unix time in seconds.

    Every method may raise StoreUnavailable; a change that did may have happened: look, or repeat.
    """

    def __init__(
        self,
        records: KeyRecords,
        copy: KeyStore,
        *,
        random_hex: Callable[[int], str],
        random_text: Callable[[int], str],
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._copy = copy
        self._random_hex = random_hex
        self._random_text = random_text
        self._clock = clock

    async def create(self, draft: ApiKey) -> tuple[ApiKey, str]:
        """A new key like `draft`, whose id, secrets and time of creation do not count; and what
        its owner sends, which nobody can ask for again. Raises InvalidRequest.
        """
        key_id, secret = self._random_hex(KEY_ID_BYTES), self._random_text(SECRET_BYTES)
        key = replace(
            draft,
            key_id=key_id,
            secrets=(SecretHash(hash_secret(secret)),),
            created_at_s=self._clock(),
            generation=1,
        )
        check_key(key)
        await self._keep(key)
        return key, key_text(key_id, secret)

    async def rotate(self, key_id: str, grace_s: float) -> tuple[ApiKey, str]:
        """A new secret; the one before opens the key for `grace_s` more. Raises InvalidRequest."""
        key = await self.show(key_id)
        if key.is_revoked:
            raise InvalidRequest(f"key {key_id} is revoked", "key_id")
        secret = self._random_text(SECRET_BYTES)
        rotated = key.rotated(secret, self._clock(), grace_s)
        await self._keep(rotated)
        return rotated, key_text(key_id, secret)

    async def revoke(self, key_id: str) -> ApiKey:
        """The key opens nothing any more. Again is nothing. Raises InvalidRequest."""
        key = await self.show(key_id)
        await self._records.revoke(key_id)
        await self._copy.revoke(key_id)
        return replace(key, is_revoked=True)

    async def show(self, key_id: str) -> ApiKey:
        """One key. Raises InvalidRequest for one that there is not."""
        key = await self._records.get(key_id) if KEY_ID.fullmatch(key_id) else None
        if key is None:
            # Not repeated: it may be a whole key, given by mistake.
            raise InvalidRequest("there is no key with that id: see `flora keys list`", "key_id")
        return key

    async def all_keys(self) -> AsyncIterator[ApiKey]:
        """Every key that can be read, revoked ones included."""
        async for key_id in self._records.key_ids():
            try:
                key = await self._records.get(key_id)
            except AdapterCorrupt as error:
                # One damaged record must not keep all others from being seen.
                _LOG.warning("%s", error)
                continue
            if key is not None:
                yield key

    async def has_usable(self) -> bool:
        """Whether any key opens anything now."""
        async for key in self.all_keys():
            if key.is_usable(self._clock()):
                return True
        return False

    async def copy_all(self) -> int:
        """Tell the copy of every key, after it was emptied or to be sure; how many there are."""
        num_keys = 0
        async for key in self.all_keys():
            await self._copy.put(key)
            if key.is_revoked:
                await self._copy.revoke(key.key_id)
            num_keys += 1
        return num_keys

    async def _keep(self, key: ApiKey) -> None:
        if not await self._records.put(key):
            raise StoreUnavailable(f"key {key.key_id} was changed meanwhile: try again")
        await self._copy.put(key)
