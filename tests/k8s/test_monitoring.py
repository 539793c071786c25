"""Rules and dashboards ask for metrics that there are, by labels that these have."""

import json
import re
from collections.abc import Iterator

import pytest

from k8s.components.monitoring.grafana import DASHBOARDS, FOLDER, text
from tests.k8s.manifests import ROOT, build, one, ray_pod

KINDS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
OF_ALL = {"door", "replica", "model"}


def documented() -> dict[str, set[str]]:
    """Every name that Prometheus may be asked for, with its labels; the page is proven true."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for name, kind, cell in re.findall(r"^\| `(flora_\w+)` \| (\w+) \|([^|]*)\|", page, re.M):
        labels = set(re.findall(r"\w+", cell)) | OF_ALL | ({"le"} if kind == "histogram" else set())
        found |= {name + suffix: labels for suffix in KINDS[kind]}
    return found


def queries() -> Iterator[tuple[str, str]]:
    [group] = one(build("gpu"), "PrometheusRule", "flora")["spec"]["groups"]
    yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for name in DASHBOARDS:
        for panel in json.loads((FOLDER / f"{name}.json").read_text())["panels"]:
            yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def unknown(query: str) -> set[str]:
    """Metrics of a query that there are not, and labels that none of its metrics has."""
    known = documented()
    metrics = set(re.findall(r"\bflora_\w+", query))
    labels = {label for name in metrics for label in known.get(name, set())}
    groups = re.findall(r"(?:by|ignoring|without) \(([^)]*)\)", query)
    named = {label for group in groups for label in re.findall(r"\w+", group)}
    for matchers in re.findall(r"\{([^}]*)\}", query):
        named |= set(re.findall(r"(\w+)\s*[!=]", matchers))
    return (metrics - known.keys()) | (named - labels)


def test_queries_name_metrics_and_labels_that_there_are() -> None:
    found = list(queries())
    assert len(found) > 40
    assert {title: unknown(query) for title, query in found if unknown(query)} == {}


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("rate(flora_request_total[5m])", {"flora_request_total"}),
        ("sum(flora_requests)", {"flora_requests"}),
        ("sum by (tennant) (rate(flora_tenant_tokens_total[5m]))", {"tennant"}),
        ('flora_cache_requests_total{outcome="hit"}', {"outcome"}),
        ("histogram_quantile(0.9, flora_request_seconds_bucket)", set()),
    ],
)
def test_the_check_itself(query: str, fault: set[str]) -> None:
    assert unknown(query) == fault


def test_alerts_say_how_bad_they_are_and_what_to_do() -> None:
    [group] = one(build("gpu"), "PrometheusRule", "flora")["spec"]["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert f"`{rule['alert']}`" in page


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_are_as_their_maker_writes_them(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == text(name)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_whole(name: str) -> None:
    board = json.loads(text(name))
    assert board["uid"] == name
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
    assert len(places) == len(panels)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)
    [source] = board["templating"]["list"]
    for panel in panels:
        assert panel["datasource"]["uid"] == f"${{{source['name']}}}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_grafana_gets_every_dashboard() -> None:
    data = one(build("gpu"), "ConfigMap", "grafana-dashboards")["data"]
    assert {name: json.loads(found)["uid"] for name, found in data.items()} == {
        f"{name}.json": name for name in DASHBOARDS
    }


def test_the_application_is_scraped_once_and_with_a_key() -> None:
    objects = build("gpu")
    spec = one(objects, "PodMonitor", "flora")["spec"]
    head = ray_pod(objects, "head")
    assert spec["selector"]["matchLabels"].items() <= head.labels.items()
    for group in ("ingress", "engine"):
        labels = ray_pod(objects, group).labels
        assert not spec["selector"]["matchLabels"].items() <= labels.items()
    [endpoint] = spec["podMetricsEndpoints"]
    assert (endpoint["path"], endpoint["port"]) == ("/metrics", "serve")
    assert endpoint["authorization"]["credentials"]["name"] == "metrics-key"
