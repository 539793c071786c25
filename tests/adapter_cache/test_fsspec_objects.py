from collections.abc import AsyncIterator
from glob import glob
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.fsspec_objects import FsspecObjects, NameFiles, quote_part, unquote_part
from adapter_cache.version_entry import VersionEntry, entry_of
from contracts.adapters import DEFAULT_TENANT, AdapterManifest, Digest, TenantId
from contracts.errors import AdapterCorrupt, NotReady, StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob, make_key
from tests.adapter_cache.s3_server import s3_server

ODD = TenantId("../ä?*[1]/ 100%")


@pytest.fixture(params=["file", "s3"])
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FsspecObjects]:
    if request.param == "file":
        objects = FsspecObjects(f"file://{tmp_path}")
        yield objects
        await objects.close()
        return
    with s3_server() as server:
        server.make_bucket("adapters")
        objects = FsspecObjects("s3://adapters/prod", **server.options)
        yield objects
        await objects.close()


def put_file(path: Path, data: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@given(st.lists(st.text(st.characters(codec="utf-8")) | st.sampled_from(["", ".", "..", "%"])))
def test_any_text_is_one_part_of_a_path_of_its_own(texts: list[str]) -> None:
    parts = [quote_part(text) for text in texts]
    assert [unquote_part(part) for part in parts] == texts
    assert not [part for part in parts if "/" in part or part in ("", ".", "..")]


async def test_a_blob_stays_until_it_is_deleted(objects: FsspecObjects) -> None:
    blob = make_blob(1, 500_000)
    digest = digest_of(blob)
    assert await objects.get(digest) is None
    assert await objects.has_blob(digest) is False
    await objects.put(digest, blob)
    assert await objects.get(digest) == blob
    assert await objects.has_blob(digest) is True
    [found] = [each async for each in objects.blobs()]
    assert (found.digest, found.size_bytes) == (digest, 500_000)
    assert found.modified_at_s == await objects.blob_modified_at_s(digest)
    await objects.delete_blob(digest)
    await objects.delete_blob(digest)
    assert [each async for each in objects.blobs()] == []
    assert await objects.get(Digest("../../etc/passwd")) is None


async def test_all_blobs_are_listed(objects: FsspecObjects) -> None:
    blobs = {digest_of(make_blob(seed)): make_blob(seed) for seed in range(20)}
    for digest, blob in blobs.items():
        await objects.put_blob(digest, blob)
    assert {each.digest async for each in objects.blobs()} == set(blobs)


@pytest.mark.parametrize("tenant", [DEFAULT_TENANT, ODD, TenantId(""), TenantId("..")])
async def test_a_name_is_its_entries_and_pins(objects: FsspecObjects, tenant: TenantId) -> None:
    first, second = VersionEntry(1, None), VersionEntry(2, None)
    assert await objects.create_entry(tenant, "ada", first) is True
    assert await objects.create_entry(tenant, "ada", first) is False
    assert await objects.create_entry(tenant, "ada", second) is True
    assert await objects.create_entry(tenant, "ada.2", first) is True
    await objects.pin(tenant, "ada", 2)
    await objects.pin(tenant, "ada", 2)
    assert await objects.entries(tenant, "ada") == [first, second]
    assert await objects.pins(tenant, "ada") == {2}
    names = {(each.tenant, each.name): each async for each in objects.all_names()}
    assert set(names) == {(tenant, "ada"), (tenant, "ada.2")}
    assert names[tenant, "ada"] == await objects.name_files(tenant, "ada")
    assert set(names[tenant, "ada"].entries) == {1, 2}
    await objects.unpin(tenant, "ada", 2)
    await objects.unpin(tenant, "ada", 2)
    assert await objects.pins(tenant, "ada") == frozenset()
    await objects.pin(tenant, "ada", 1)
    await objects.remove_entries(tenant, "ada", [2, 1, 7])
    assert await objects.name_files(tenant, "ada") == NameFiles(tenant, "ada", {}, frozenset())
    assert await objects.entries(DEFAULT_TENANT, "nobody") == []


async def test_an_entry_keeps_its_manifest(objects: FsspecObjects) -> None:
    manifest = AdapterManifest(make_key(make_blob(1)), "base", 1, 2, 3.25)
    await objects.create_entry(DEFAULT_TENANT, "ada", entry_of(manifest))
    assert await objects.read_entry(DEFAULT_TENANT, "ada", 1) == entry_of(manifest)
    assert await objects.read_entry(DEFAULT_TENANT, "ada", 2) is None


async def test_files_of_others_are_left_out(tmp_path: Path) -> None:
    objects = FsspecObjects(f"file://{tmp_path}")
    await objects.create_entry(DEFAULT_TENANT, "ada", VersionEntry(1, None))
    [folder] = glob(f"{tmp_path}/names/*/default/ada")
    for path in ("notes.txt", "0000000001.json~", "x.json", "more/0000000002.json"):
        put_file(Path(folder, path))
    put_file(Path(folder).parent / "a@b" / "0000000001.json")
    put_file(tmp_path / "blobs" / "xy" / "README")
    assert [(each.name, set(each.entries)) async for each in objects.all_names()] == [("ada", {1})]
    assert [each async for each in objects.blobs()] == []
    await objects.close()


async def test_a_damaged_entry_is_named_and_passed_over(tmp_path: Path) -> None:
    objects = FsspecObjects(f"file://{tmp_path}")
    for version in (1, 2):
        await objects.create_entry(DEFAULT_TENANT, "ada", VersionEntry(version, None))
    [path] = glob(f"{tmp_path}/names/*/default/ada/0000000001.json")
    put_file(Path(path), b"{")
    with pytest.raises(AdapterCorrupt, match="ada"):
        await objects.read_entry(DEFAULT_TENANT, "ada", 1)
    assert await objects.entries(DEFAULT_TENANT, "ada") == [VersionEntry(2, None)]
    await objects.close()


async def test_a_store_that_cannot_create_exclusively_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overwrite = MemoryFileSystem.pipe_file

    def ignore_mode(self: MemoryFileSystem, path: str, data: bytes, mode: str = "") -> None:
        overwrite(self, path, data)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", ignore_mode)
    objects = FsspecObjects("memory://ignores-conditions")
    with pytest.raises(NotReady, match="conditional"):
        await objects.create_entry(DEFAULT_TENANT, "ada", VersionEntry(1, None))
    await objects.close()


async def test_a_missing_bucket_is_no_empty_store() -> None:
    with s3_server() as server:
        objects = FsspecObjects("s3://nobody-made-it", **server.options)
        with pytest.raises(StoreUnavailable, match="bucket"):
            await objects.parts()
        server.make_bucket("nobody-made-it")
        assert await objects.parts() == []
        await objects.close()
