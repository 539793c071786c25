"""Several base models in the settings."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import Settings, load_settings
from app.model_config import deployment_of, with_defaults
from contracts.errors import InvalidRequest

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,20}", fullmatch=True)
TABLES = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "num_slots": st.integers(100, 200),
        "num_gpus": st.sampled_from([0.0, 0.25, 1.0, 2.0]),
        "scaling": st.fixed_dictionaries({}, optional={"drain_s": st.integers(0, 9)}),
    },
)


def slug(name: str) -> str:
    """What is left of a name without signs and case."""
    return "-".join(re.findall("[a-z0-9]+", name.lower()))


def load(models: Any, **sections: Any) -> Settings:
    return load_settings(overrides={"models": models, **sections})


def test_one_model_is_what_the_replica_says() -> None:
    settings = load_settings(overrides={"replica": {"model": "/m/Qwen3", "num_slots": 99}})
    [model] = settings.served_models
    assert (model.name, model.model, model.num_slots) == ("qwen3", "/m/Qwen3", 99)
    assert deployment_of(model, settings.served_models) == "replica"
    named = load_settings(overrides={"server": {"served_model_name": "a:b c"}})
    assert [model.name for model in named.served_models] == ["a:b c"]


def test_a_table_has_the_rest_from_the_replica(tmp_path: Path) -> None:
    path = tmp_path / "flora.toml"
    path.write_text(
        "[replica]\nnum_gpus = 0.5\nnum_slots = 100\nscaling = {drain_s = 7, max_replicas = 2}\n"
        "[[models]]\nname = 'Small'\nmodel = '/a'\n"
        "[[models]]\nname = 'large/v2'\nnum_slots = 200\nscaling = {max_replicas = 5}\n"
    )
    settings = load_settings(path)
    small, large = settings.served_models
    assert [small.num_gpus, large.num_gpus] == [0.5, 0.5]
    assert [small.num_slots, large.num_slots] == [100, 200]
    assert [small.model, large.model] == ["/a", settings.replica.model]
    assert [m.scaling.drain_s for m in (small, large)] == [7, 7]
    assert [m.scaling.max_replicas for m in (small, large)] == [2, 5]
    deployments = [deployment_of(m, settings.served_models) for m in settings.served_models]
    assert deployments == ["replica-small", "replica-large-v2"]
    assert settings.base_model_name == "Small"


def test_the_variable_has_them_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLORA_MODELS", '[{"name": "a"}, {"name": "b"}]')
    monkeypatch.setenv("FLORA_REPLICA__NUM_SLOTS", "111")
    found = [(model.name, model.num_slots) for model in load_settings().served_models]
    assert found == [("a", 111), ("b", 111)]


@given(st.lists(TABLES, min_size=1, max_size=4, unique_by=lambda t: slug(str(t["name"]))))
def test_every_table_is_a_model(tables: list[dict[str, Any]]) -> None:
    """Names that are apart give deployments that are apart; nothing else changes on the way."""
    models = load(tables).served_models
    assert [model.name for model in models] == [table["name"] for table in tables]
    assert len({deployment_of(model, models) for model in models}) == len(models)
    for model, table in zip(models, tables, strict=True):
        assert model.num_slots == table.get("num_slots", 128)
        assert model.num_gpus == table.get("num_gpus")
        assert model.scaling.drain_s == table.get("scaling", {}).get("drain_s", 20.0)


@given(st.lists(NAMES, min_size=2, max_size=4))
def test_names_that_are_alike_are_refused(names: list[str]) -> None:
    alike = [*names, names[0].upper().replace("/", ".")]
    with pytest.raises(InvalidRequest, match="alike") as refused:
        load([{"name": name} for name in alike])
    assert refused.value.param == "models"


@pytest.mark.parametrize(
    ("models", "param"),
    [
        ([], "models"),
        ("small", "models"),
        (3, "models"),
        ([3], "models.0"),
        ([{}], "models.0.name"),
        ([{"name": ""}], "models.0.name"),
        ([{"name": "a:b"}], "models.0.name"),
        ([{"name": "a@1"}], "models.0.name"),
        ([{"name": "a\n"}], "models.0.name"),
        ([{"name": "a"}, {"name": "a"}], "models"),
        ([{"name": "a.b"}, {"name": "A-b"}], "models"),
        ([{"name": "a"}, {"name": "b", "num_slot": 1}], "models.1.num_slot"),
        ([{"name": "a", "num_slots": 1}], "models.0"),
        ([{"name": "a", "dtype": "int3"}], "models.0.dtype"),
        ([{"name": "a", "scaling": {"drain_s": -1}}], "models.0.scaling"),
        ([{"name": "a", "scaling": 3}], "models.0.scaling"),
    ],
)
def test_bad_tables_stop_the_start_by_name(models: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        load(models)
    assert refused.value.param == param
    assert str(refused.value).startswith(f"{param}: ")


def test_the_name_of_the_one_model_is_refused_beside_them() -> None:
    with pytest.raises(InvalidRequest, match="served_model_name") as refused:
        load([{"name": "a"}], server={"served_model_name": "b"})
    assert refused.value.param == "models"


def test_a_fault_of_the_defaults_is_named_as_theirs() -> None:
    with pytest.raises(InvalidRequest) as refused:
        load([{"name": "a"}], replica={"dtype": "int3"})
    assert refused.value.param == "replica.dtype"


def test_defaults_stay_as_they_were() -> None:
    defaults = {"scaling": {"drain_s": 1}}
    assert with_defaults([{"scaling": {"drain_s": 2}}], defaults) == [{"scaling": {"drain_s": 2}}]
    assert defaults == {"scaling": {"drain_s": 1}}
