"""The `model` field of a request: `base`, `base:adapter` or `base:adapter@version`. Pure."""

import re
from dataclasses import dataclass

from contracts.adapters import ADAPTER_NAME, AdapterRef, TenantId
from contracts.errors import UnknownModel

_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ModelName:
    """One parsed name. `adapter` is None for the base model itself, `version` None for current."""

    base: str
    adapter: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        adapter = f":{self.adapter}" if self.adapter else ""
        version = f"@{self.version}" if self.version else ""
        return f"{self.base}{adapter}{version}"

    def ref(self, tenant: TenantId) -> AdapterRef | None:
        """What to ask the store for; None for the base model, which the store does not know."""
        return AdapterRef(tenant, self.adapter, self.version) if self.adapter else None


def parse_model_name(text: str, base: str) -> ModelName:
    """Read `text` on a server whose base model is called `base`.

    The base is matched as a whole prefix, so it may itself contain ":", "@" or "/".
    Raises UnknownModel for every text that cannot name a model here.
    """
    if text == base:
        return ModelName(base)
    if not text.startswith(f"{base}:"):
        raise unknown_model(text)
    adapter, at, version = text[len(base) + 1 :].partition("@")
    if not ADAPTER_NAME.fullmatch(adapter) or (at and not _VERSION.fullmatch(version)):
        raise unknown_model(text)
    return ModelName(base, adapter, int(version) if at else None)


def unknown_model(text: str) -> UnknownModel:
    """The one answer for "no such model" and for "not yours", so that it tells nothing apart."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return UnknownModel(f"The model '{shown}' does not exist.", "model")
