"""A gauge of the event loop that renders it: what leaks there shows before anything else does."""

import asyncio
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class LoopTasks(Collector):
    """How many tasks the running event loop has; nothing outside of one."""

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        try:
            count = len(asyncio.all_tasks())
        except RuntimeError:
            return
        yield GaugeMetricFamily("flora_event_loop_tasks", "Tasks of the event loop.", count)
