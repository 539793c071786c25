"""The gauge counts the tasks of the loop that renders the page."""

import asyncio

from prometheus_client import CollectorRegistry, generate_latest

from adapter_cache.loop_metrics import LoopTasks


def page() -> str:
    registry = CollectorRegistry()
    registry.register(LoopTasks())
    return generate_latest(registry).decode()


async def test_a_task_more_is_one_more() -> None:
    before = page()
    task = asyncio.create_task(asyncio.sleep(60))
    after = page()
    task.cancel()
    count = len(asyncio.all_tasks())
    assert f"flora_event_loop_tasks {count - 1}.0" in before
    assert f"flora_event_loop_tasks {count}.0" in after


def test_without_a_loop_there_is_nothing_to_count() -> None:
    assert page() == ""
