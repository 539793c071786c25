"""Fingerprints: equal for copies of a model, different for other models."""

import json
from pathlib import Path

import pytest
import torch

from contracts.errors import InvalidRequest
from flora.base_model import fingerprint
from tests.flora.models import CONFIGS, make_model


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_copies_in_another_dtype_agree(tmp_path: Path, kind: str) -> None:
    model = make_model(kind).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "short")
    model.float().save_pretrained(tmp_path / "long")
    model.float().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    found = {fingerprint(tmp_path / name) for name in ("short", "long", "shards")}
    assert len(found) == 1
    assert len(found.pop().split("-")) == 2


def test_trained_norms_change_the_weights_part_alone(tmp_path: Path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path / "one")
    model.model.norm.weight.data += 0.1
    model.save_pretrained(tmp_path / "two")
    one, two = (fingerprint(tmp_path / name).split("-") for name in ("one", "two"))
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_a_config_alone_gives_the_architecture(tmp_path: Path) -> None:
    CONFIGS["llama"].save_pretrained(tmp_path / "config")
    make_model().save_pretrained(tmp_path / "model")
    CONFIGS["gpt2"].save_pretrained(tmp_path / "other")
    found = fingerprint(tmp_path / "config")
    assert "-" not in found
    assert fingerprint(tmp_path / "model").startswith(found + "-")
    assert fingerprint(tmp_path / "other") != found


def test_nested_text_configs_count(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"hidden_size": 8}}))
    before = fingerprint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"hidden_size": 9}}))
    assert fingerprint(tmp_path) != before


@pytest.mark.parametrize("text", [None, "", "[]", "{"])
def test_unreadable_configs(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidRequest):
        fingerprint(tmp_path)


def test_unreadable_weights(tmp_path: Path) -> None:
    CONFIGS["llama"].save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        fingerprint(tmp_path)
