"""Records of API keys in the object store, which is the truth; Redis has a copy of it.

    keys/<dd>/<key id>/<generation:010d>.json   one generation, created exclusively; all stay
    keys/<dd>/<key id>/revoked                  the key is revoked, for good

dd: the first two hex digits of the key id. Of two that change one key at a time, one creates the
next generation; and revocation is a file of its own, so that no change of the record undoes it.
"""

from collections.abc import AsyncIterator

from adapter_cache.fsspec_files import FsspecFiles
from app.api_key import KEY_ID, ApiKey, decode_key, encode_key


class FsspecKeys:
    """KeyStore below one fsspec URL, and the list of all keys. Opens the URL when first used."""

    def __init__(self, url: str) -> None:
        self._files = FsspecFiles(url, max_parallel=8)

    async def get(self, key_id: str) -> ApiKey | None:
        names = {file.path.rpartition("/")[2] for file in await self._files.find(_folder(key_id))}
        newest = max((name for name in names if name.endswith(".json")), default=None)
        text = newest and await self._files.read(f"{_folder(key_id)}/{newest}")
        return decode_key(key_id, text, is_revoked="revoked" in names) if text else None

    async def put(self, key: ApiKey) -> bool:
        """See KeyStore. False also where somebody else has made this generation."""
        known = await self.get(key.key_id)
        if known is not None and known.generation >= key.generation:
            return False
        path = f"{_folder(key.key_id)}/{key.generation:010d}.json"
        return await self._files.create(path, encode_key(key))

    async def revoke(self, key_id: str) -> None:
        await self._files.write(f"{_folder(key_id)}/revoked", b"{}")

    async def key_ids(self) -> AsyncIterator[str]:
        """Every key id, revoked ones included, a 256th of them in memory at a time."""
        for part in await self._files.folders("keys"):
            for key_id in await self._files.folders(f"keys/{part}"):
                if KEY_ID.fullmatch(key_id):
                    yield key_id

    async def close(self) -> None:
        """End the threads."""
        await self._files.close()

    def __repr__(self) -> str:
        return f"<FsspecKeys {self._files!r}>"


def _folder(key_id: str) -> str:
    return f"keys/{key_id[:2]}/{key_id}"
