"""Watches the calls to a store's dependencies, and acts before and after any of them."""

from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

T = TypeVar("T")
Act = Callable[[str], Awaitable[None]]


class _Watched:
    def __init__(self, target: Any, act: Act) -> None:
        self._target = target
        self._act = act

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not iscoroutinefunction(found):
            return found

        @wraps(found)
        async def call(*args: Any, **options: Any) -> Any:
            await self._act(f"before {name}")
            result = await found(*args, **options)
            await self._act(f"after {name}")
            return result

        return call


def watched(target: T, act: Act) -> T:
    """`target`, whose coroutines await `act("before NAME")` and `act("after NAME")`."""
    return cast("T", _Watched(target, act))


def once(step: str, action: Callable[[], Awaitable[object]]) -> Act:
    """Run `action` when `step` comes for the first time."""
    done = False

    async def act(now: str) -> None:
        nonlocal done
        if now == step and not done:
            done = True
            await action()

    return act


def failing(step: str, error: Exception) -> Act:
    """Raise `error` whenever `step` comes."""

    async def act(now: str) -> None:
        if now == step:
            raise error

    return act
