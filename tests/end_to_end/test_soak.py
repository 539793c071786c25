"""Ten seconds of everything at once leaves nothing behind. `flora bench soak` goes on for ten."""

import argparse
from pathlib import Path

import pytest

from benchmarks.soak import run
from benchmarks.soak_gauges import MUST_BE_ZERO, Allowance, leaks
from tests.app.parts import make_tokenizer
from tests.end_to_end.echo_server import BASE

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_short_soak_leaves_nothing(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path / BASE)
    args = argparse.Namespace(
        model=tmp_path / BASE, seconds=10.0, clients=16, engine="echo", seed=1
    )
    result = run(args, tmp_path)
    assert not result.outcome.wrong, result.outcome.wrong[:10]
    assert not leaks(result.readings[0], result.readings[-1], Allowance())
    assert set(MUST_BE_ZERO) <= set(result.readings[-1])
    seen = {entry.rsplit(" ", 1)[0] for entry in result.outcome.statuses}
    assert {"stream", "leave", "leave early", "publish", "bad body", "deadline"} <= seen
