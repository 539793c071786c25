from pathlib import Path
from typing import Any

import pytest

from loadtest.command_line import LOCUSTFILE, locust_words, without_secrets
from loadtest.load_config import LoadConfig
from loadtest.run_config import RunConfig, from_options
from loadtest.shapes import SHAPES, SOAK_SLOS

DEFAULTS: dict[str, Any] = {
    "shape": "poisson-15",
    "url": "http://127.0.0.1:8000",
    "rate": 0.0,
    "num_users": None,
    "duration_s": 5.0,
    "data": "data",
    "adapters": "",
    "slos": None,
    "uploads": "up",
    "report": "out",
    "locusts_own": True,
}


def config(**changes: Any) -> RunConfig:
    return from_options({**DEFAULTS, **changes})


def test_options_become_a_configuration() -> None:
    found = config(adapters="a,b, c", slos=["x=1,y=2", "z=3"], num_users=3)
    assert found.adapters == ("a", "b", "c")
    assert found.slos == ("x=1", "y=2", "z=3")
    assert found.load == LoadConfig(duration_s=5.0, rate=15.0, num_users=3, data=Path("data"))
    assert config(rate=2.5).load.rate == 2.5


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"shape": "square"}, "no shape 'square'; there are: steady"),
        ({"url": ""}, "see --url"),
        ({"url": "localhost"}, "see --url"),
        ({"protocol": "grpc"}, "--grpc-address"),
        ({"shape": "churn"}, "say how many with --publish"),
        ({"duration_s": 0.0}, "duration_s must be over 0"),
        ({"rate": -1.0}, "rate must be over 0"),
        ({"base_share": 1.5}, "base_share must be 0 to 1"),
        ({"timeout_s": 0.0}, "--timeout"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        config(**changes)


def test_shapes_have_slos_of_their_own_until_others_are_given() -> None:
    assert config(shape="soak", publish=4).all_slos == SOAK_SLOS
    assert config(shape="soak", publish=4, slos=["failed_share=0"]).all_slos == ("failed_share=0",)


def test_each_tenant_has_its_key_and_no_record_has_any() -> None:
    found = config(api_key="mine", noisy_key="theirs")
    assert [found.key_of(group) for group in ("all", "quiet", "noisy")] == [
        "mine",
        "mine",
        "theirs",
    ]
    assert not {"mine", "theirs"} & {str(value) for value in found.public().values()}
    assert found.public()["rate"] == 15.0


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_shape_says_what_it_is(name: str) -> None:
    assert SHAPES[name].summary
    assert SHAPES[name].make.__doc__


def test_the_short_command_line_is_locusts() -> None:
    file = ["-f", str(LOCUSTFILE)]
    headless = ["--headless", "--only-summary"]
    assert locust_words(["burst", "--url", "u"]) == [
        *file,
        *headless,
        *("--shape", "burst", "--url", "u"),
    ]
    assert locust_words(["steady", "--web"]) == [*file, "--shape", "steady"]
    assert locust_words(["--worker", "--master-host", "m"]) == [
        *file,
        *("--worker", "--master-host", "m"),
    ]
    assert LOCUSTFILE.exists()


def test_keys_are_not_kept() -> None:
    given = ["--api-key", "a", "--rate", "3", "--noisy-key=b", "--url", "u"]
    kept = ["--api-key=...", "--rate", "3", "--noisy-key=...", "--url", "u"]
    assert without_secrets(given) == kept
