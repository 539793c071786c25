"""The servers of `flora bench stack`, one after the other: ours, variants of it, and peers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Server:
    """One server that is measured. `start` yields its URL and the sides that ask it.

    A metric of `clients` streams is called `label` with the side's name and their number filled
    in. `lone` is whether single requests to an idle server are measured, too.
    """

    name: str
    label: str
    clients: tuple[int, ...]
    lone: bool
    is_ours: bool
    start: Callable[[Path], AbstractContextManager[tuple[str, list[Side]]]]


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
    uploads = write_uploads(layout, NUM_ADAPTERS)
    ours = partial(flora_serve, model, uploads, console)
    serve = partial(peer, model, max_num_seqs, console)
    best = one_process_engine()
    main = Server("flora", "{side}{clients}", CLIENTS, True, True, partial(ours, (), grpc=True))
    eager = Server(
        "vllm_serve",
        "vllm_serve",
        (32,),
        True,
        False,
        partial(serve, 0, best, ("--enforce-eager",)),
    )
    if quick:
        return [Server("flora", main.label, (1, 32), True, True, main.start), eager]
    variants = {
        "no_window": "window.wait_s=0",
        "stream_per_request": "window.max_batch_size=1",
        "compiled": "replica.enforce_eager=false",
    }
    return [
        main,
        *(
            Server(
                name, f"{name}_{{side}}{{clients}}", (32,), True, True, partial(ours, (setting,))
            )
            for name, setting in variants.items()
        ),
        eager,
        *(
            Server(name, name, (32,), False, False, partial(serve, rank, environment, flags))
            for name, rank, environment, flags in (
                ("vllm_serve_compiled", 0, best, ()),
                ("vllm_serve_default", 0, {}, ()),
                (f"vllm_serve_lora_r{LORA_RANK}", LORA_RANK, best, ("--enforce-eager",)),
            )
        ),
        Server(
            f"ray_llm_lora_r{LORA_RANK}",
            f"ray_llm_lora_r{LORA_RANK}",
            (32,),
            False,
            False,
            partial(ray_llm_peer, model, max_num_seqs, console, packages),
        ),
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
