from prometheus_client import CollectorRegistry, generate_latest

from replicas.queue_metrics import QueueMetrics


def test_what_prometheus_sees() -> None:
    registry = CollectorRegistry()
    metrics = QueueMetrics(registry)
    metrics.waiting.set(3)
    metrics.running_seqs.set(8)
    metrics.waited_s.observe(0.3)
    metrics.refused.inc()
    metrics.tokens.add("ada", 12)
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        "flora_queue_waiting 3.0",
        "flora_running_sequences 8.0",
        'flora_queue_wait_seconds_bucket{le="0.2"} 0.0',
        'flora_queue_wait_seconds_bucket{le="0.5"} 1.0',
        "flora_queue_refused_total 1.0",
        'flora_tenant_tokens_total{tenant="ada"} 12.0',
        'flora_tenant_tokens_total{tenant="_other"} 0.0',
    ):
        assert line in lines
