import sys
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from app.config import ServerSettings, load_settings
from app.grammar_judge import GrammarJudge
from app.prompts import Prompts
from app.shaping import make_grammars, make_tools
from app.structure import NoGrammars, NoTools
from replicas.config import ReplicaConfig
from tests.app.parts import make_tokenizer


def settings(**replica: Any) -> tuple[ReplicaConfig, ServerSettings]:
    made = load_settings(None, {"replica": replica})
    return made.replica, made.server


async def test_the_echo_engine_keeps_to_no_grammar_and_calls_no_tools() -> None:
    before = psutil.Process().children()
    assert isinstance(make_grammars(*settings(engine="echo")), NoGrammars)
    tools = await make_tools(*settings(engine="echo"), Prompts(make_tokenizer()))
    assert isinstance(tools, NoTools)
    assert psutil.Process().children() == before


async def test_a_server_without_a_tool_parser_does_not_load_one() -> None:
    chosen = load_settings(None, {"server": {"tool_parser": ""}})
    prompts = Prompts(make_tokenizer())
    loaded = set(sys.modules)
    assert isinstance(await make_tools(chosen.replica, chosen.server, prompts), NoTools)
    assert set(sys.modules) == loaded


async def test_the_worker_is_on_its_way_and_ends_with_the_judge(tmp_path: Path) -> None:
    judge = make_grammars(*settings(model=str(tmp_path)))
    assert isinstance(judge, GrammarJudge)
    await judge.aclose()
    assert [p for p in psutil.Process().children() if "grammar" in " ".join(p.cmdline())] == []


@pytest.mark.vllm
async def test_vllms_parser_is_loaded() -> None:
    tools = await make_tools(*settings(model="tiny"), Prompts(make_tokenizer()))
    assert type(tools).__name__ == "VllmTools"
