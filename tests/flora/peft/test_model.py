"""What PEFT's users do with a tuned model: train, switch, mix, disable, merge, delete."""

import copy
from typing import Any

import pytest
import torch
from peft import get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

from flora.linear import linear_modules
from flora.peft import FloraConfig
from tests.flora.models import make_model
from tests.flora.peft.tuned import add_random, gradients, logits, make_tuned, train_steps

KINDS = ["llama", "gpt2"]


def is_adapter(name: str) -> bool:
    return ".flora_" in name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [1, 3])
def test_a_fresh_adapter_is_the_base_model(kind: str, rank: int) -> None:
    tuned = make_tuned(kind, init_weights=True, r=rank)
    torch.testing.assert_close(logits(tuned), logits(make_model(kind)), rtol=1e-4, atol=1e-5)
    assert len(tuned.targeted_module_names) == len(linear_modules(make_model(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_training_changes_the_adapter_and_nothing_else(kind: str) -> None:
    tuned = make_tuned(kind, init_weights=True, r=2)
    before = {name: p.detach().clone() for name, p in tuned.named_parameters()}
    train_steps(tuned)
    changed = {n for n, p in tuned.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {name for name in before if is_adapter(name)}


def test_one_b_is_trained_for_each_input() -> None:
    tied, untied = make_tuned(r=2), make_tuned(r=2, tie_inputs=False)
    # A layer has 4 inputs and 7 modules: q/k/v and gate/up read one each.
    assert sum(".flora_B" in n for n, _ in tied.named_parameters()) == 2 * 4
    assert sum(".flora_B" in n for n, _ in untied.named_parameters()) == 2 * 7
    copied = copy.deepcopy(tied)
    copied.to(torch.bfloat16)
    assert sum(".flora_B" in n for n, _ in copied.named_parameters()) == 2 * 4


def test_targets_as_peft_users_say_them() -> None:
    tuned = make_tuned(
        target_modules=["q_proj", "v_proj", "down_proj"],
        exclude_modules=["v_proj"],
        layers_to_transform=[1],
    )
    assert set(tuned.targeted_module_names) == {
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    }
    assert len(make_tuned(layers_to_transform=[1]).targeted_module_names) == 7
    assert make_tuned(target_modules=r".*\.0\..*up_proj").targeted_module_names == [
        "model.layers.0.mlp.up_proj"
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_switched_and_disabled(kind: str) -> None:
    base = logits(make_model(kind))
    tuned = make_tuned(kind)
    first = logits(tuned)
    add_random(tuned, "other", r=3)
    torch.testing.assert_close(logits(tuned), first)
    tuned.set_adapter("other")
    second = logits(tuned)
    assert (first - second).abs().max() > 0.01
    with tuned.disable_adapter():
        torch.testing.assert_close(logits(tuned), base, rtol=0, atol=0)
    torch.testing.assert_close(logits(tuned), second)
    trainable = {n for n, p in tuned.named_parameters() if p.requires_grad}
    assert trainable == {n for n, _ in tuned.named_parameters() if n.endswith(".other")}


def test_a_deleted_adapter_is_gone() -> None:
    tuned = make_tuned()
    first = logits(tuned)
    add_random(tuned, "other")
    tuned.set_adapter("other")
    with pytest.warns(UserWarning, match="Setting active adapter to default"):
        tuned.delete_adapter("other")
    torch.testing.assert_close(logits(tuned), first)
    assert not [name for name in tuned.state_dict() if "other" in name]
    with pytest.raises(ValueError, match="does not exist"):
        tuned.delete_adapter("other")
    with pytest.raises(NotImplementedError, match="weighted sum of scalings"):
        tuned.add_weighted_adapter(["default"], [1.0], "sum")


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_mixed_adapters_equals_each_alone(kind: str) -> None:
    tuned = make_tuned(kind)
    add_random(tuned, "wide", r=3)
    alone = {}
    for name in ("default", "wide"):
        tuned.set_adapter(name)
        alone[name] = logits(tuned)
    alone["__base__"] = logits(make_model(kind))
    names = ["wide", "__base__", "default"]
    mixed = logits(tuned, adapter_names=names)
    for i, name in enumerate(names):
        torch.testing.assert_close(mixed[i], alone[name][i], rtol=1e-4, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in tuned.modules())


def test_mixed_batches_of_beams() -> None:
    tuned = make_tuned()
    add_random(tuned, "other")
    words: dict[str, Any] = {"max_new_tokens": 5, "min_new_tokens": 5, "num_beams": 3}
    ids = torch.arange(8).reshape(2, 4)
    both = ["other", "default"]
    mixed = tuned.generate(input_ids=ids, adapter_names=both, pad_token_id=0, **words)
    for i, name in enumerate(both):
        tuned.set_adapter(name)
        alone = tuned.generate(input_ids=ids[i : i + 1], pad_token_id=0, **words)
        torch.testing.assert_close(mixed[i : i + 1], alone)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["default", "default", "nobody"], ValueError, "non-existing adapter.*nobody"),
        ("default", TypeError, "list of str, not str"),
        (["default"], ValueError, "got 1 and 3"),
    ],
)
def test_bad_names_of_a_batch(names: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        logits(make_tuned(), adapter_names=names)


def test_mixed_batches_are_not_for_training() -> None:
    tuned = make_tuned().train()
    with pytest.raises(ValueError, match="training mode"):
        logits(tuned, adapter_names=["default"] * 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("active", [["default"], ["default", "other"]])
def test_merged_models_equal_tuned_ones(kind: str, active: list[str]) -> None:
    tuned = make_tuned(kind, r=2)
    add_random(tuned, "other")
    tuned.base_model.set_adapter(active)
    before, base = logits(tuned), logits(make_model(kind))
    tuned.merge_adapter(safe_merge=True)
    torch.testing.assert_close(logits(tuned), before, rtol=1e-4, atol=1e-5)
    tuned.unmerge_adapter()
    with tuned.disable_adapter():
        torch.testing.assert_close(logits(tuned), base, rtol=0, atol=0)
    merged = tuned.merge_and_unload(safe_merge=True)
    torch.testing.assert_close(logits(merged), before, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, BaseTunerLayer) for module in merged.modules())
    assert (before - base).abs().max() > 0.01


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant: bool) -> None:
    tuned = make_tuned(r=2).train()
    expected = gradients(tuned)
    tuned.enable_input_require_grads()
    tuned.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    found = gradients(tuned)
    assert found.keys() == expected.keys()
    assert set(map(is_adapter, found)) == {True}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("autocast", [True, False])
def test_adapters_of_a_half_precision_base(autocast: bool) -> None:
    model = make_model().to(torch.bfloat16)
    tuned = get_peft_model(model, FloraConfig(), autocast_adapter_dtype=autocast)
    adapter = {p.dtype for n, p in tuned.named_parameters() if is_adapter(n)}
    assert adapter == {torch.float32 if autocast else torch.bfloat16}
    assert sum(".flora_B" in n for n, _ in tuned.named_parameters()) == 2 * 4
    assert logits(tuned).dtype == torch.bfloat16
