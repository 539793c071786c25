"""What a door needs for structured output, tools and speech, as its settings want it."""

import asyncio
from dataclasses import replace

from app.config import ServerSettings
from app.grammar_judge import GrammarJudge, worker_command
from app.prompts import Prompts
from app.structure import GrammarCheck, NoGrammars, NoTools, ToolParsing
from flora.speech.vocabulary import SpeechVocabulary, suppressed_tokens
from replicas.config import ReplicaConfig


def make_grammars(model: ReplicaConfig, server: ServerSettings) -> GrammarCheck:
    """A judge whose worker is on its way; the engine `echo` keeps to no grammar."""
    if model.engine == "echo":
        return NoGrammars()
    judge = GrammarJudge(worker_command(model.model, server.grammar_timeout_s))
    judge.start()
    return judge


def make_speech(model: ReplicaConfig, prompts: Prompts) -> SpeechVocabulary | None:
    """What steers a model that listens; None for all others."""
    found = SpeechVocabulary.of(prompts.tokenizer)
    return None if found is None else replace(found, suppressed=suppressed_tokens(model.model))


async def make_tools(model: ReplicaConfig, server: ServerSettings, prompts: Prompts) -> ToolParsing:
    """vLLM's parser, loaded on a thread. Raises InvalidRequest for a parser that is unknown."""
    if model.engine == "echo" or not server.tool_parser:
        return NoTools()
    return await asyncio.to_thread(_load, server.tool_parser, prompts)


def _load(tool_parser: str, prompts: Prompts) -> ToolParsing:
    # Seconds and hundreds of megabytes, which a server without tools does not pay.
    from app.vllm_tools import VllmTools

    return VllmTools.load(tool_parser, prompts.tokenizer)
