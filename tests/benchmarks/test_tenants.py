"""The benchmark's training and its sums, on a tiny model and made-up tenants."""

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.intent_answers import KINDS, Answers
from benchmarks.intents import IntentTenant, Utterance
from benchmarks.tenants import Trained, summary, train_all, verdict
from flora.train import TrainReport
from tests.flora.models import make_model_dir


def make_tenant(name: str) -> IntentTenant:
    utterances = tuple(Utterance(f"{name} {i}", f"{name} intent") for i in range(6))
    return IntentTenant(name, (f"{name} intent",), utterances[:4], utterances[4:5], utterances[5:])


def test_all_tenants_are_trained_and_some_are_timed_alone(tmp_path: Path) -> None:
    tenants = [make_tenant(name) for name in ("ann", "bob", "cat")]
    model = make_model_dir(tmp_path / "model")
    args = Namespace(model=model, steps=2, separate=1)
    trained = train_all(args, tenants, tmp_path)
    assert [report.name for report in trained.reports] == ["ann", "bob", "cat"]
    assert all((trained.folder / name / "adapter_config.json").exists() for name in ("ann", "cat"))
    assert min(trained.batched_s, trained.separate_s) > 0


def test_the_verdict_is_of_means_over_tenants() -> None:
    tenants = [make_tenant(name) for name in ("ann", "bob")]
    reports = [TrainReport(t.name, Path(t.name), 10, 100, 5, 3.0, 1.0) for t in tenants]
    shares = {"own": (1.0, 0.5), "next": (0.0, 0.0), "base": (0.0, 0.1), "base_choice": (0.2, 0.4)}
    accuracies = {
        f"{kind}_accuracy_{tenant.name}": shares[kind][i]
        for kind in KINDS
        for i, tenant in enumerate(tenants)
    }
    trained = Trained(Path(), reports, batched_s=10.0, separate_s=25.0)
    metrics = summary(tenants, trained, Answers(accuracies, {}))
    assert metrics["own_accuracy_mean"] == pytest.approx(0.75)
    assert metrics["separate_to_batched_time"] == 2.5
    assert metrics["heldout_loss_after_nats"] == 1.0
    told = verdict(metrics | {"served_logprob_max_diff": 0.0001})
    assert told.startswith("0.75 of intents named right with a tenant's own adapter (0.50 to 1.00)")
    assert "2.50 times" in told
    assert "0.30 if it may only choose" in told
