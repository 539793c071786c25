"""The `model` field of a request: `base`, `base:adapter` or `base:adapter@version`. Pure.

Another tenant's adapter has its owner in front: `base:owner/adapter@version`.
"""

import re
from dataclasses import dataclass

from contracts.access import Caller
from contracts.adapters import ADAPTER_NAME, TENANT_NAME, AdapterRef, TenantId
from contracts.errors import UnknownModel, WrongBaseModel

_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ModelName:
    """One parsed name. `adapter` is None for the base model itself, `version` None for current,
    `owner` None for the caller's own adapter.
    """

    base: str
    adapter: str | None = None
    version: int | None = None
    owner: TenantId | None = None

    def __str__(self) -> str:
        adapter = f":{self.spelled}" if self.adapter else ""
        version = f"@{self.version}" if self.version else ""
        return f"{self.base}{adapter}{version}"

    @property
    def spelled(self) -> str:
        """The adapter as an allow-list spells it: without a version."""
        return f"{self.owner}/{self.adapter}" if self.owner else self.adapter or ""

    def ref(self, caller: Caller) -> AdapterRef | None:
        """What to ask the store for; None for the base model, which the store does not know.

        Raises UnknownModel for an adapter that the caller's key does not list.
        """
        if self.adapter is None:
            return None
        if not caller.may_use(self.spelled):
            raise unknown_model(str(self))
        if self.owner is None or self.owner == caller.tenant:
            return AdapterRef(caller.tenant, self.adapter, self.version)
        return AdapterRef(self.owner, self.adapter, self.version, caller.tenant)


def parse_model_name(text: str, base: str) -> ModelName:
    """Read `text` on a server whose base model is called `base`.

    The base is matched as a whole prefix, so it may itself contain ":", "@" or "/".
    Raises UnknownModel for every text that cannot name a model here.
    """
    if text == base:
        return ModelName(base)
    if not text.startswith(f"{base}:"):
        raise unknown_model(text)
    rest, at, version = text[len(base) + 1 :].partition("@")
    owner, slash, adapter = rest.rpartition("/")
    is_name = ADAPTER_NAME.fullmatch(adapter) and (TENANT_NAME.fullmatch(owner) or not slash)
    if not is_name or (at and not _VERSION.fullmatch(version)):
        raise unknown_model(text)
    return ModelName(base, adapter, int(version) if at else None, TenantId(owner) or None)


def wrong_base(spelled: str, base: str, right: str | None) -> WrongBaseModel:
    """What to raise for an adapter, spelled as the caller does, of another model than `base`.

    `right` is the model that it is made for, None where that is not known here.
    """
    hint = f": ask for '{right}:{spelled}'" if right else ""
    return WrongBaseModel(
        f"The adapter '{spelled}' is made for another base model than '{base}'{hint}.", "model"
    )


def unknown_model(text: str) -> UnknownModel:
    """The one answer for "no such model" and for "not yours", so that it tells nothing apart."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return UnknownModel(f"The model '{shown}' does not exist.", "model")
