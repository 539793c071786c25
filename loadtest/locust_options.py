"""The options of a run, beside locust's own. Each has an environment variable LOADTEST_NAME."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from locust import events

from loadtest.dialects import DIALECTS
from loadtest.load_config import DATA, LoadConfig
from loadtest.run_config import RunConfig
from loadtest.shapes import SHAPES

_DEFAULTS = LoadConfig()
_KEY_VARIABLES = {"api_key": "FLORA_API_KEY"}
_SHAPES = "; ".join(f"{name}: {shape.summary}" for name, shape in SHAPES.items())


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Called by locust before it reads its command line."""
    group = parser.add_argument_group("flora-serve load test")

    def add(flag: str, default: object, text: str, **more: Any) -> None:
        name = str(more.get("dest") or flag.strip("-").replace("-", "_"))
        variable = _KEY_VARIABLES.get(name, f"LOADTEST_{name.upper()}")
        # Environment variables are configargparse's, not argparse's.
        group.add_argument(
            flag,
            default=default,
            help=f"{text} [{variable}]",
            env_var=variable,
            **more,
        )

    add("--shape", "poisson-8", f"what comes when: {_SHAPES}", choices=list(SHAPES))
    add("--url", "", "the server; the same as --host")
    add("--rate", 0.0, "requests a second; default: the shape's", type=float)
    add("--duration", 60.0, "seconds of load", type=float, dest="duration_s")
    add("--seed", 0, "decides everything that is drawn", type=int)
    _add_requests(add)
    _add_server(add)
    _add_report(add)


def _add_requests(add: Callable[..., None]) -> None:
    d = _DEFAULTS
    add("--base-share", d.base_share, "of requests, for the base model", type=float)
    add("--skew", d.skew, "exponent of Zipf's law over adapters; 0: all alike", type=float)
    add("--prompt-tokens", d.prompt_tokens, "mean; half to one and a half of it", type=int)
    add("--answer-tokens", d.answer_tokens, "mean; half to one and a half of it", type=int)
    add("--lengths", d.lengths, "where lengths come from", choices=("uniform", "sharegpt"))
    add("--shrink", d.shrink, "real lengths are divided by this", type=float)
    add("--max-prompt-tokens", d.max_prompt_tokens, "of real lengths", type=int)
    add("--max-answer-tokens", d.max_answer_tokens, "of real lengths", type=int)
    add("--data", str(DATA), "folder of the data sets: traces and ShareGPT's lengths")
    add("--timeout", RunConfig.timeout_s, "seconds for an answer", type=float, dest="timeout_s")
    add("--drain", RunConfig.drain_s, "seconds to wait at the end", type=float, dest="drain_s")


def _add_server(add: Callable[..., None]) -> None:
    add("--protocol", "http", "the wire", choices=("http", "grpc"))
    add("--grpc-address", "", "HOST:PORT of the gRPC API")
    add("--api", "openai", "what the server speaks over HTTP", choices=list(DIALECTS))
    add("--model", "", "the base model; default: the first one that the server names")
    add("--adapters", "", "models to ask for, with commas; default: all that the server names")
    add("--publish", 0, "publish so many adapters first, and ask for these", type=int)
    add("--uploads", str(RunConfig.uploads), "adapter folders that --publish makes variants of")
    add("--api-key", "", "an API key; better give it by the environment")
    add("--noisy-key", "", "the noisy tenant's API key")
    add("--server-pid", 0, "the server's process on this machine, to watch or kill", type=int)
    add("--watch", False, "read memory and descriptors of a local server", action="store_true")
    add("--kill-command", "", "what kills a replica; default: SIGKILL on this machine")


def _add_report(add: Callable[..., None]) -> None:
    text = "METRIC=LIMIT, such as ttft_p95_s=0.5; several times, or with commas"
    add("--slo", None, text, action="append", dest="slos")
    add("--report", str(RunConfig.report), "folder of the reports")
    add("--name", "", "what the reports are called; default: the shape")
