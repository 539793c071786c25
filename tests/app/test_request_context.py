"""Whose request it is: ids from outside are taken where they are plain, tasks know their own."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from app.request_context import RequestContext, current_request, enter_request, request_id_of


@given(st.none() | st.text(max_size=200))
def test_an_id_is_short_and_plain_whatever_was_sent(given_: str | None) -> None:
    made = request_id_of(given_, lambda: "new")
    assert made in (given_, "new")
    assert 1 <= len(made) <= 128
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made


def test_a_good_id_is_kept() -> None:
    given_ = "0af76519-16cd-43dd.8448:eb211c/80319c+=@_"
    assert request_id_of(given_, lambda: "new") == given_
    assert request_id_of("a" * 129, lambda: "new") == "new"
    assert request_id_of("a\n", lambda: "new") == "new"


async def test_each_task_has_its_own_request() -> None:
    async def serve(name: str) -> str:
        leave = enter_request(RequestContext(name))
        await asyncio.sleep(0)
        found = current_request().request_id
        leave()
        return found

    assert await asyncio.gather(*map(serve, "abc")) == ["a", "b", "c"]
    assert current_request().request_id == ""


def test_outside_of_any_request_nothing_is_kept() -> None:
    current_request().answer_id = "lost"
    assert current_request().answer_id == ""
