"""Writes the Grafana dashboards beside it: `python k8s/components/monitoring/grafana.py`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
_SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    """A time series: `queries` are pairs of PromQL and legend, `unit` is Grafana's name of one."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    description: str = ""


def rate(metric: str, by: str = "", where: str = "") -> str:
    """The sum of a counter's rates over all processes."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{where}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "") -> str:
    """Of a histogram, over all processes."""
    groups = f"le, {by}" if by else "le"
    return (
        f"histogram_quantile({share}, sum by ({groups}) (rate({metric}_bucket[$__rate_interval])))"
    )


def times(title: str, metric: str, description: str = "") -> Panel:
    """Three quantiles of a histogram of seconds."""
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    return Panel(title, "s", [(quantile(q, metric), name) for q, name in shares], description)


SERVE = [
    Panel(
        "Answered requests",
        "reqps",
        [(rate("flora_api_requests_total", "protocol, status"), "{{protocol}} {{status}}")],
    ),
    Panel(
        "Tokens",
        "short",
        [
            (rate("flora_generated_tokens_total"), "out"),
            (rate("flora_prompt_tokens_total"), "in"),
            (rate("flora_cached_prompt_tokens_total"), "in, from the prefix cache"),
        ],
        "A second, over all engines.",
    ),
    Panel("Ends", "reqps", [(rate("flora_requests_ended_total", "outcome"), "{{outcome}}")]),
    times("To the first token", "flora_time_to_first_token_seconds"),
    times("Between tokens", "flora_inter_token_seconds"),
    times("Whole requests", "flora_request_seconds"),
    Panel(
        "In the doors",
        "short",
        [("sum(flora_running_requests)", "running"), ("sum(flora_waiting_requests)", "waiting")],
    ),
    Panel(
        "In the engines",
        "short",
        [
            ("sum by (replica) (flora_running_sequences)", "running {{replica}}"),
            ("sum by (replica) (flora_queue_waiting)", "waiting {{replica}}"),
        ],
    ),
    Panel(
        "Refused",
        "reqps",
        [
            (rate("flora_shed_requests_total", "bound"), "full: {{bound}}"),
            (rate("flora_rate_limited_requests_total", "limit"), "quota: {{limit}}"),
            (rate("flora_queue_refused_total"), "full: engine"),
        ],
    ),
    times("Wait for a window", "flora_window_wait_seconds"),
    times("Look-up of adapters", "flora_registry_resolve_seconds"),
    times("Wait for the engine", "flora_queue_wait_seconds"),
    Panel("Why that engine", "reqps", [(rate("flora_routed_requests_total", "why"), "{{why}}")]),
    Panel("Lost engines", "reqps", [(rate("flora_lost_requests_total", "error"), "{{error}}")]),
    Panel(
        "Adapters on devices",
        "percentunit",
        [
            ("sum(flora_slots_used) / sum(flora_slots)", "slots in use"),
            (
                f"{rate('flora_slots_hits_total')} / ({rate('flora_slots_hits_total')}"
                f" + {rate('flora_slots_misses_total')})",
                "found there",
            ),
        ],
    ),
    Panel(
        "Adapters by tier",
        "reqps",
        [(rate("flora_cache_requests_total", "tier, result"), "{{tier}} {{result}}")],
    ),
    Panel(
        "Bytes of adapters",
        "bytes",
        [
            ("sum by (tier) (flora_cache_used_bytes)", "{{tier}}"),
            ("sum by (tier) (flora_cache_budget_bytes)", "{{tier}} budget"),
        ],
    ),
    Panel(
        "Time of a tier",
        "s",
        [(quantile(0.95, "flora_cache_seconds", "tier"), "{{tier}} p95")],
    ),
]

TENANTS = [
    Panel(
        "Tokens by tenant",
        "short",
        [(f"topk(20, {rate('flora_tenant_usage_tokens_total', 'tenant')})", "{{tenant}}")],
        "A second, in and out. Tenants beyond metrics.max_tenants are _other.",
    ),
    Panel(
        "Prompts by tenant",
        "reqps",
        [(f"topk(20, {rate('flora_tenant_requests_total', 'tenant')})", "{{tenant}}")],
    ),
    Panel(
        "Share of the engines",
        "percentunit",
        [
            (
                f"topk(20, {rate('flora_tenant_tokens_total', 'tenant')}"
                f" / ignoring(tenant) group_left {rate('flora_tenant_tokens_total')})",
                "{{tenant}}",
            )
        ],
    ),
    Panel(
        "Usage records",
        "short",
        [
            (rate("flora_usage_records_total"), "written a second"),
            ("sum(flora_usage_records_pending)", "on their way"),
            (rate("flora_usage_records_dropped_total"), "lost a second"),
        ],
    ),
]

DASHBOARDS = {
    "flora-serve": ("flora-serve", SERVE),
    "flora-tenants": ("flora-serve: tenants", TENANTS),
}


def dashboard(name: str) -> dict[str, Any]:
    """One of DASHBOARDS, for Grafana 11 and later."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": name,
        "title": title,
        "tags": ["flora-serve"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def text(name: str) -> str:
    """The file of `name`."""
    return json.dumps(dashboard(name), indent=1) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "editorMode": "code",
                "range": True,
                "expr": query,
                "legendFormat": legend,
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    for dashboard_name in DASHBOARDS:
        (FOLDER / f"{dashboard_name}.json").write_text(text(dashboard_name))
