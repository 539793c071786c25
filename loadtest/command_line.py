"""Command lines: the short one that people write, locust's, and one that may be kept."""

from collections.abc import Sequence
from pathlib import Path

from loadtest.run_config import SECRETS

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_NO_PAGE = ("--headless", "--only-summary")


def locust_words(words: Sequence[str]) -> list[str]:
    """`SHAPE OPTION...` as locust wants it: with this project's locustfile, and without the web
    page unless `--web` asks for it. A worker takes the shape from its master.
    """
    rest = list(words)
    shape = ["--shape", rest.pop(0)] if rest and not rest[0].startswith("-") else []
    has_page = "--web" in rest or "--worker" in rest
    rest = [word for word in rest if word != "--web"]
    return ["-f", str(LOCUSTFILE), *(() if has_page else _NO_PAGE), *shape, *rest]


def without_secrets(words: Sequence[str]) -> list[str]:
    """The same words without the values of keys."""
    flags = {f"--{name.replace('_', '-')}" for name in SECRETS}
    kept = []
    hides_next = False
    for word in words:
        flag, has_value, _ = word.partition("=")
        is_secret = flag in flags
        if not hides_next:
            kept.append(f"{flag}=..." if is_secret else word)
        hides_next = is_secret and not has_value
    return kept
