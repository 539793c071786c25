"""Several processes' counts as one page for Prometheus. Pure."""

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_LOG = logging.getLogger(__name__)

LABEL = "replica"
MODEL_LABEL = "model"
DOOR_LABEL = "door"


def merged(
    own: bytes,
    replicas: Mapping[str, bytes],
    door_id: str = "",
    models: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """`own` text with `door_id`, if any, as the label `door`; each replica's with its id as
    `replica` and, where `models` has one by that id, its model as `model`. A scrape reaches one
    door of several, and their counts must not be mixed up.

    Prometheus refuses a page that names a family twice, so that equal ones become one. A text that
    cannot be read, or that gives a family another type, is left out as far as that goes.
    """
    if not replicas and not door_id:
        return own
    families: dict[str, Metric] = {}
    _add(families, own, {DOOR_LABEL: door_id} if door_id else {})
    for replica_id, text in sorted(replicas.items()):
        try:
            model = {MODEL_LABEL: models[replica_id]} if replica_id in models else {}
            _add(families, text, {LABEL: replica_id, **model})
        except ValueError as error:
            _LOG.warning("metrics of replica %s cannot be read: %s", replica_id, error)
    return generate_latest(_Page(families.values()))


def _add(families: dict[str, Metric], text: bytes, labels: Mapping[str, str]) -> None:
    # Parsed to its end first: half a text would be worse than none.
    for family in list(text_string_to_metric_families(text.decode())):
        known = families.setdefault(family.name, _without_samples(family))
        if known.type != family.type:
            _LOG.warning("metric %s is both %s and %s", family.name, known.type, family.type)
            continue
        known.samples += [_labelled(sample, labels) for sample in family.samples]


def _without_samples(family: Metric) -> Metric:
    return Metric(family.name, family.documentation, family.type)


def _labelled(sample: Sample, labels: Mapping[str, str]) -> Sample:
    return sample._replace(labels={**sample.labels, **labels})


class _Page:
    """What `generate_latest` takes for a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
