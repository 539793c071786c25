"""A stack of adapters against torch's AdamW, one for each adapter, over steps some are not in."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flora.learning_rate import LearningRate
from flora.stacked_adamw import StackedAdamW, clip_each

NUM_ADAPTERS = 3
SHAPES = ((NUM_ADAPTERS, 2, 5), (NUM_ADAPTERS, 1, 4))
PRESENCES = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=12)


def make_rate() -> LearningRate:
    return LearningRate(0.1, 2, (12, 6, 3))


def make_gradients(seed: int, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * scale for shape in SHAPES]


def run_stacked(presences: list[list[bool]]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.ones(shape)) for shape in SHAPES]
    optimizer = StackedAdamW(parameters, make_rate())
    for step, present in enumerate(presences):
        for parameter, gradient in zip(parameters, make_gradients(step), strict=True):
            parameter.grad = gradient * torch.tensor(present).view(-1, 1, 1)
        clip_each(parameters, 1.0)
        optimizer.present = torch.tensor(present)
        optimizer.step()
    counts = [sum(present[k] for present in presences) for k in range(NUM_ADAPTERS)]
    assert optimizer.num_steps == counts
    return parameters


def run_alone(adapter: int, presences: list[list[bool]]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.ones(shape[1:])) for shape in SHAPES]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    done = 0
    for step, present in enumerate(presences):
        if not present[adapter]:
            continue
        for parameter, gradient in zip(parameters, make_gradients(step), strict=True):
            parameter.grad = gradient[adapter].clone()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.param_groups[0]["lr"] = make_rate().at(adapter, done)
        optimizer.step()
        done += 1
    return parameters


@settings(deadline=None, max_examples=40)
@given(PRESENCES)
def test_each_adapter_moves_as_if_it_were_alone(presences: list[list[bool]]) -> None:
    stacked = run_stacked(presences)
    for k in range(NUM_ADAPTERS):
        for mine, expected in zip(stacked, run_alone(k, presences), strict=True):
            torch.testing.assert_close(mine[k], expected, rtol=1e-5, atol=1e-6)


def test_who_is_absent_does_not_move_though_it_has_momentum() -> None:
    parameters = [nn.Parameter(torch.ones(shape)) for shape in SHAPES]
    optimizer = StackedAdamW(parameters, make_rate())
    for step, present in enumerate(([True, True, True], [True, False, True])):
        before = [parameter.detach().clone() for parameter in parameters]
        for parameter, gradient in zip(parameters, make_gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.present = torch.tensor(present)
        optimizer.step()
        for was, parameter in zip(before, parameters, strict=True):
            moved = (was != parameter).flatten(1).any(1)
            assert moved.tolist() == present


def test_a_resumed_optimizer_goes_on_where_it_was() -> None:
    halves = []
    for is_resumed in (False, True):
        parameters = [nn.Parameter(torch.ones(shape)) for shape in SHAPES]
        optimizer = StackedAdamW(parameters, make_rate())
        for step in range(4):
            if is_resumed and step == 2:
                state = optimizer.state_dict()
                optimizer = StackedAdamW(parameters, make_rate())
                optimizer.load_state_dict(state)
            for parameter, gradient in zip(parameters, make_gradients(step), strict=True):
                parameter.grad = gradient
            optimizer.present = torch.tensor([True, step != 1, True])
            optimizer.step()
        assert optimizer.num_steps == [4, 3, 4]
        halves.append(parameters)
    for mine, other in zip(*halves, strict=True):
        assert torch.equal(mine, other)


def test_clipping_is_by_adapter_and_an_overflow_stays_its_own() -> None:
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for parameter, gradient in zip(parameters, make_gradients(0), strict=True):
        parameter.grad = gradient * torch.tensor([10.0, 0.01, 1.0]).view(-1, 1, 1)
    assert parameters[1].grad is not None
    parameters[1].grad[2, 0, 0] = torch.inf
    small = [p.grad[1].clone() for p in parameters if p.grad is not None]
    assert clip_each(parameters, 1.0).tolist() == [True, True, False]
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g[0].norm() for g in gradients]).norm()
    torch.testing.assert_close(norm, torch.tensor(1.0))
    assert all(torch.equal(g[1], was) for g, was in zip(gradients, small, strict=True))
    assert not any(g[2].any() for g in gradients)
