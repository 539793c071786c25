"""Which servers a run measures, under which names."""

from pathlib import Path

from rich.console import Console

from benchmarks.stack_servers import Server, servers
from tests.flora.layouts import make_layout


def made(*, quick: bool) -> list[Server]:
    return servers(Path("tiny"), 64, make_layout(), Console(), packages="", quick=quick)


def test_a_whole_run_has_ours_first_and_every_peer() -> None:
    found = made(quick=False)
    assert found[0].name == "flora"
    assert found[0].clients == (1, 8, 32, 128)
    assert [server.name for server in found if not server.is_ours] == [
        "vllm_serve",
        "vllm_serve_compiled",
        "vllm_serve_default",
        "vllm_serve_lora_r8",
        "ray_llm_lora_r8",
    ]


def test_a_quick_run_has_one_of_each_kind() -> None:
    assert [(s.name, s.clients) for s in made(quick=True)] == [
        ("flora", (1, 32)),
        ("vllm_serve", (32,)),
    ]


def test_no_two_servers_write_the_same_metric() -> None:
    labels = [
        server.label.format(side=side, clients=clients)
        for server in made(quick=False)
        for clients in server.clients
        for side in (("http", "grpc") if server.name == "flora" else ("http",))
    ]
    assert len(set(labels)) == len(labels)
    assert {"http32", "grpc32", "no_window_http32", "vllm_serve_lora_r8"} <= set(labels)
