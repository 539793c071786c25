"""A client of the adapter routes, for the command line and for the demo."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from contracts.errors import CallerError, InvalidAdapter, NotReady, ServiceError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


class ApiClient:
    """Every refusal is a CallerError or a ServiceError with the server's own words.

    `key` is an API key, empty for a server that asks for none.
    """

    def __init__(self, url: str, key: str = "", timeout_s: float = 60.0) -> None:
        self._url = url.rstrip("/")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self._url, timeout=timeout_s, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def push(self, name: str, source: Path, model: str | None = None) -> dict[str, Any]:
        """Publish a PEFT folder or one .safetensors file as `name`, for the base model `model`."""
        path = _path(name)
        params = {} if model is None else {"model": model}
        if source.is_dir():
            files = {
                name: (name, _read(source / name), "application/octet-stream")
                for name in (CONFIG_FILE, WEIGHTS_FILE)
            }
            return self._call("PUT", path, params=params, files=files)
        raw = {"content-type": "application/octet-stream"}
        return self._call("PUT", path, params=params, content=_read(source), headers=raw)

    def adapters(self, page_size: int = 100) -> Iterator[dict[str, Any]]:
        """All adapters by name, fetched page by page."""
        after = ""
        while True:
            page = self._call("GET", "/v1/adapters", params={"limit": page_size, "after": after})
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["last_id"]

    def show(self, name: str) -> dict[str, Any]:
        """One adapter with its versions."""
        return self._call("GET", _path(name))

    def delete(self, name: str) -> dict[str, Any]:
        """Forget an adapter."""
        return self._call("DELETE", _path(name))

    def rollback(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Make an older version current again; the new version that it became."""
        body = {} if version is None else {"version": version}
        return self._call("POST", f"{_path(name)}/rollback", json=body)

    def pin(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Keep a version from being pruned."""
        return self._call("PUT", f"{_path(name)}/pin", params=_version(version))

    def unpin(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Undo `pin`."""
        return self._call("DELETE", f"{_path(name)}/pin", params=_version(version))

    def prefetch(self, name: str, version: int | None = None) -> dict[str, Any]:
        """Bring a version to Redis and to the replicas."""
        return self._call("POST", f"{_path(name)}/prefetch", params=_version(version))

    def share(self, name: str, tenant: str | None) -> dict[str, Any]:
        """Let a tenant use an adapter, None: every tenant."""
        return self._call("PUT", _readers(name, tenant))

    def unshare(self, name: str, tenant: str | None) -> dict[str, Any]:
        """Undo `share`."""
        return self._call("DELETE", _readers(name, tenant))

    def require_ready(self) -> None:
        """Raises ServiceError until the server is ready. Needs no key."""
        self._call("GET", "/readyz")

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise NotReady(f"{self._url} does not answer: {error}") from error
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        message = _message(response)
        raise (ServiceError if response.is_server_error else CallerError)(message)


def _path(name: str) -> str:
    return f"/v1/adapters/{quote(name, safe='')}"


def _readers(name: str, tenant: str | None) -> str:
    who = "public" if tenant is None else f"shares/{quote(tenant, safe='')}"
    return f"{_path(name)}/{who}"


def _version(version: int | None) -> dict[str, int]:
    return {} if version is None else {"version": version}


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidAdapter(f"cannot read {path}: {error.strerror}") from error
