"""What a door needs for structured output and tools, as its settings want it."""

import asyncio

from app.config import Settings
from app.grammar_judge import GrammarJudge, worker_command
from app.prompts import Prompts
from app.structure import GrammarCheck, NoGrammars, NoTools, ToolParsing


def make_grammars(settings: Settings) -> GrammarCheck:
    """A judge whose worker is on its way; the engine `echo` keeps to no grammar."""
    if settings.replica.engine == "echo":
        return NoGrammars()
    judge = GrammarJudge(worker_command(settings.replica.model, settings.server.grammar_timeout_s))
    judge.start()
    return judge


async def make_tools(settings: Settings, prompts: Prompts) -> ToolParsing:
    """vLLM's parser, loaded on a thread. Raises InvalidRequest for a parser that is unknown."""
    if settings.replica.engine == "echo" or not settings.server.tool_parser:
        return NoTools()
    return await asyncio.to_thread(_load, settings.server.tool_parser, prompts)


def _load(tool_parser: str, prompts: Prompts) -> ToolParsing:
    # Seconds and hundreds of megabytes, which a server without tools does not pay.
    from app.vllm_tools import VllmTools

    return VllmTools.load(tool_parser, prompts.tokenizer)
