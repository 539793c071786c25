"""The base models of one application: those of the table `models`, or the one of `replica`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Self

from pydantic import Field

from replicas.config import ReplicaConfig

ONLY_DEPLOYMENT = "replica"
"""What Serve calls the replicas where there is one model."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$"
_NO_SLUG = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig(ReplicaConfig):
    """A base model with replicas of its own. `name` is what clients call it."""

    name: Annotated[str, Field(pattern=_NAME)]

    @classmethod
    def of(cls, name: str, config: ReplicaConfig) -> Self:
        """`config` under that name, which may be any."""
        return cls(name=name, **{f.name: getattr(config, f.name) for f in fields(config)})

    @property
    def slug(self) -> str:
        """The name as a part of other names: small letters and digits, with "-" between."""
        return _NO_SLUG.sub("-", self.name.lower()).strip("-")


def with_defaults(models: Any, defaults: Any) -> Any:
    """Each table of `models` with what it leaves out; what is no list of tables stays as it is."""
    if not isinstance(models, Sequence) or isinstance(models, str):
        return models
    return [_over(defaults, table) if isinstance(table, Mapping) else table for table in models]


def require_apart(models: Sequence[ModelConfig]) -> None:
    """Raises ValueError where two names are the same but for signs and case."""
    names: dict[str, str] = {}
    for model in models:
        if model.slug in names:
            raise ValueError(
                f"the names '{names[model.slug]}' and '{model.name}' are too much alike"
            )
        names[model.slug] = model.name


def deployment_of(model: ModelConfig, models: Sequence[ModelConfig]) -> str:
    """What Serve calls the replicas of `model`, which is one of `models`."""
    return ONLY_DEPLOYMENT if len(models) == 1 else f"{ONLY_DEPLOYMENT}-{model.slug}"


def _over(defaults: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(defaults) if isinstance(defaults, Mapping) else {}
    for key, value in table.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(value, Mapping) else value
    return merged
