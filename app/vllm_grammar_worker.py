"""Compiles grammars as the engine would: `python -m app.vllm_grammar_worker MODEL TIMEOUT_S`.

One JSON object a line on standard input (`kind`, `spec`), one answer a line on standard output:
`{"error": null}` or what is wrong. Each is compiled in a forked child, which has everything loaded
and may run for too long, take too much memory or crash: the next one finds nothing of it.
"""

import json
import os
import resource
import select
import signal
import sys
import time
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer
from vllm import SamplingParams
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar
from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend, validate_xgrammar_grammar
from vllm.v1.structured_output.request import get_structured_output_key

from contracts.generation import Structure
from replicas.vllm_sampling import to_structured

MAX_VALIDATION_S = 0.25
"""Processor seconds of what the engine does in its event loop before it compiles."""
MAX_STEP_S = 0.05
"""Processor seconds of what the engine does for each token."""
MAX_GROWTH_BYTES = 1 << 30
"""Memory that one grammar may take on top of the loaded libraries."""
_WALK_TOKENS = 24
_SHOWN_CHARACTERS = 300


class Compiler:
    """vLLM's own validation and compiler, for the vocabulary of one model."""

    def __init__(self, model: str) -> None:
        config = AutoConfig.from_pretrained(model)
        vocab_size = config.get_text_config().vocab_size
        settings: Any = SimpleNamespace(
            structured_outputs_config=SimpleNamespace(disable_any_whitespace=False),
            model_config=None,
            speculative_config=None,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(model, use_fast=True)
        self._backend = XgrammarBackend(settings, tokenizer=tokenizer, vocab_size=vocab_size)

    def error_of(self, structure: Structure) -> str | None:
        """Why the engine could not keep to `structure` at speed; None where it can."""
        try:
            params = SamplingParams(structured_outputs=to_structured(structure))
            began_s = time.process_time()
            validate_xgrammar_grammar(params)
            took_s = time.process_time() - began_s
            assert params.structured_outputs is not None
            kind, spec = get_structured_output_key(params.structured_outputs)
            grammar = self._backend.compile_grammar(kind, spec)
        except Exception as error:
            return str(error).strip() or type(error).__name__
        if took_s > MAX_VALIDATION_S:
            return "it takes too long to read"
        return self._walk(grammar)

    def _walk(self, grammar: StructuredOutputGrammar) -> str | None:
        """Some tokens into the grammar: what is slow for each of them shows itself there."""
        mask = self._backend.allocate_token_bitmask(1)
        for place in range(_WALK_TOKENS):
            began_s = time.process_time()
            grammar.fill_bitmask(mask, 0)
            if time.process_time() - began_s > MAX_STEP_S:
                return "it takes too long for each token"
            allowed = _allowed(mask)
            if not allowed.size:
                return "it allows no token" if place == 0 else None
            grammar.accept_tokens("", [int(allowed[allowed.size // 2])])
            if grammar.is_terminated():
                return None
        return None


def _allowed(mask: torch.Tensor) -> "np.ndarray[Any, np.dtype[np.int64]]":
    return np.flatnonzero(np.unpackbits(mask.numpy().view(np.uint8), bitorder="little"))


def bound_memory(max_growth_bytes: int) -> None:
    """What asks for more fails here, and so never in the engine."""
    with open("/proc/self/status", encoding="ascii") as status:
        data_kib = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
    limit = data_kib * 1024 + max_growth_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def judged_apart(compiler: Compiler, structure: Structure, timeout_s: float) -> str | None:
    """`error_of` in a child; what ends the child, or keeps it too long, is an error, too."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        bound_memory(MAX_GROWTH_BYTES)
        found = compiler.error_of(structure)
        os.write(writing, json.dumps({"error": found and found[:_SHOWN_CHARACTERS]}).encode())
        os._exit(0)
    os.close(writing)
    try:
        answered = select.select([reading], [], [], timeout_s)[0]
        answer = os.read(reading, select.PIPE_BUF) if answered else b""
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not answered:
        return f"it is not compiled within {timeout_s:g} s"
    error: str | None = json.loads(answer)["error"] if answer else "its compiler failed"
    return error


def serve(compiler: Compiler, timeout_s: float, lines: TextIO, answers: TextIO) -> None:
    """Answer until `lines` end."""
    for line in lines:
        error = judged_apart(compiler, Structure(**json.loads(line)), timeout_s)
        answers.write(json.dumps({"error": error}) + "\n")
        answers.flush()


if __name__ == "__main__":
    # Libraries print to standard output at times; the answers have it to themselves.
    answers_only, sys.stdout = sys.stdout, sys.stderr
    made = Compiler(sys.argv[1])
    answers_only.write("ready\n")
    answers_only.flush()
    serve(made, float(sys.argv[2]), sys.stdin, answers_only)
