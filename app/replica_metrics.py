"""Several processes' counts as one page for Prometheus. Pure."""

import logging
from collections.abc import Iterable, Mapping

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_LOG = logging.getLogger(__name__)

LABEL = "replica"


def merged(own: bytes, replicas: Mapping[str, bytes]) -> bytes:
    """`own` text, and each replica's with its id as the label `replica`.

    Prometheus refuses a page that names a family twice, so that equal ones become one. A text that
    cannot be read, or that gives a family another type, is left out as far as that goes.
    """
    if not replicas:
        return own
    families: dict[str, Metric] = {}
    _add(families, own, {})
    for replica_id, text in sorted(replicas.items()):
        try:
            _add(families, text, {LABEL: replica_id})
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
