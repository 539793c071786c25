"""The servers of `flora bench stack`, one after the other: ours, variants of it, and peers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import grpc_asks, streaming_client
from benchmarks.peers import MODEL_NAME, engine_flags, one_process_engine, ray_llm, vllm_serve
from benchmarks.served import free_port, served
from benchmarks.stack_sides import NUM_ADAPTERS, ServerSide, Side
from benchmarks.uploads import Upload, publish, write_uploads
from benchmarks.vllm_methods import write_loras
from flora.layout import AdapterLayout

LORA_RANK = 8
CLIENTS = (1, 8, 32, 128)


Start = Callable[[Path], AbstractContextManager[tuple[str, list[Side]]]]
"""Starts a server with its files in a folder; its URL, and the sides that ask it."""

_OURS_LABEL = "{side}{clients}"
_VARIANTS = {
    "no_window": "window.wait_s=0",
    "stream_per_request": "window.max_batch_size=1",
    "compiled": "replica.enforce_eager=false",
}


@dataclass(frozen=True, slots=True)
class Server:
    """One server that is measured.

    A metric of `clients` streams is called `label` with the side's name and their number filled
    in. `is_lone` is whether single requests to an idle server are measured, too.
    """

    name: str
    start: Start
    label: str
    clients: tuple[int, ...] = (32,)
    is_lone: bool = False
    is_ours: bool = False


def servers(
    model: Path,
    max_num_seqs: int,
    layout: AdapterLayout,
    console: Console,
    *,
    packages: str,
    quick: bool,
) -> list[Server]:
    """All of them in the order in which they are measured; a quick run leaves most out."""
    ours = our_servers(model, layout, console)
    peers = peer_servers(model, max_num_seqs, console, packages)
    return [replace(ours[0], clients=(1, 32)), peers[0]] if quick else [*ours, *peers]


def our_servers(model: Path, layout: AdapterLayout, console: Console) -> list[Server]:
    """`flora serve` as it comes, and with one setting changed."""
    start = partial(flora_serve, model, write_uploads(layout, NUM_ADAPTERS), console)
    main = Server("flora", partial(start, (), grpc=True), _OURS_LABEL, CLIENTS, True, True)
    variants = [
        replace(
            main,
            name=name,
            start=partial(start, (setting,)),
            label=f"{name}_{_OURS_LABEL}",
            clients=(32,),
        )
        for name, setting in _VARIANTS.items()
    ]
    return [main, *variants]


def peer_servers(model: Path, max_num_seqs: int, console: Console, packages: str) -> list[Server]:
    """vLLM's own server with our executor, as it comes, and with LoRA; Ray's with LoRA."""
    start = partial(peer, model, max_num_seqs, console)
    best, eager = one_process_engine(), ("--enforce-eager",)
    lora, ray_lora = f"vllm_serve_lora_r{LORA_RANK}", f"ray_llm_lora_r{LORA_RANK}"
    ray = partial(ray_llm_peer, model, max_num_seqs, console, packages)
    return [
        Server("vllm_serve", partial(start, 0, best, eager), "vllm_serve", is_lone=True),
        Server("vllm_serve_compiled", partial(start, 0, best, ()), "vllm_serve_compiled"),
        Server("vllm_serve_default", partial(start, 0, {}, ()), "vllm_serve_default"),
        Server(lora, partial(start, LORA_RANK, best, eager), lora),
        Server(ray_lora, ray, ray_lora),
    ]


@contextmanager
def flora_serve(
    model: Path,
    uploads: Sequence[Upload],
    console: Console,
    settings: Sequence[str],
    folder: Path,
    *,
    grpc: bool = False,
) -> Iterator[tuple[str, list[Side]]]:
    """`flora serve` with every adapter published."""
    options = [part for setting in settings for part in ("--set", setting)]
    grpc_port = free_port()
    if grpc:
        options += ["--set", f"server.grpc_port={grpc_port}"]
    folder.mkdir(parents=True, exist_ok=True)
    with served(model, folder, console, *options) as url:
        names = publish(url, uploads)
        models = [f"{model.name.lower()}:{name}" for name in names]
        sides: list[Side] = [ServerSide("http", url, models, streaming_client.ask_together)]
        if grpc:
            address = f"127.0.0.1:{grpc_port}"
            sides.append(ServerSide("grpc", address, models, grpc_asks.ask_together))
        yield url, sides


@contextmanager
def peer(
    model: Path,
    max_num_seqs: int,
    console: Console,
    rank: int,
    environment: dict[str, str],
    flags: Sequence[str],
    folder: Path,
) -> Iterator[tuple[str, list[Side]]]:
    """`vllm serve`, without adapters where `rank` is 0."""
    loras = write_loras(model, rank, NUM_ADAPTERS, folder / "loras") if rank else []
    flags = [*engine_flags(max_num_seqs, loras, rank), *flags]
    models = [path.name for path in loras] or [MODEL_NAME]
    with vllm_serve(model, folder, console, flags, environment) as url:
        yield url, [ServerSide("http", url, models, streaming_client.ask_together)]


@contextmanager
def ray_llm_peer(
    model: Path, max_num_seqs: int, console: Console, packages: str, folder: Path
) -> Iterator[tuple[str, list[Side]]]:
    """`ray.serve.llm` with LoRA adapters."""
    loras = write_loras(model, LORA_RANK, NUM_ADAPTERS, folder / "loras")
    models = [f"{MODEL_NAME}:{path.name}" for path in loras]
    with ray_llm(
        model, folder, console, folder / "loras", LORA_RANK, max_num_seqs, packages
    ) as url:
        yield url, [ServerSide("http", url, models, streaming_client.ask_together)]
