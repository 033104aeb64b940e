"""The optimisers: equal to torch's, whatever device and whatever was rewritten."""

from copy import deepcopy

import pytest
import torch

from moegs_ns.training.optimizers import FusedAdam, FusedRAdam, LogLinearSchedulerConfig

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def walk(optimizer, parameters, steps: int, seed: int = 0) -> None:
    """Steps along random gradients of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for parameter in parameters:
            scale = 1e-7 if step % 3 else 1e-2
            gradient = scale * torch.randn(parameter.shape, generator=generator)
            parameter.grad = gradient.to(parameter.device)
        optimizer.step()


def two_copies(device: str) -> list[list[torch.nn.Parameter]]:
    values = torch.randn(2, 40, generator=torch.Generator().manual_seed(1))
    return [[torch.nn.Parameter(row.to(device)) for row in values] for _ in range(2)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("ours", "reference", "eps"),
    [
        (FusedAdam, torch.optim.Adam, 1e-15),
        (FusedRAdam, torch.optim.RAdam, 1e-8),
        (FusedRAdam, torch.optim.RAdam, 1e-4),
    ],
)
@pytest.mark.parametrize("steps", [3, 6, 120])
def test_steps_are_those_of_torch(device, ours, reference, eps, steps):
    mine, theirs = two_copies(device)
    walk(ours(mine, lr=0.01, eps=eps), mine, steps)
    walk(reference(theirs, lr=0.01, eps=eps), theirs, steps)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_forgotten_state_begins_with_momentum_again():
    mine, theirs = two_copies("cpu")
    ours, reference = FusedRAdam(mine, lr=0.01), torch.optim.RAdam(theirs, lr=0.01)
    for optimizer, parameters in ((ours, mine), (reference, theirs)):
        walk(optimizer, parameters, 20)
        optimizer.state.clear()
        walk(optimizer, parameters, 4, seed=3)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_resumed_optimizer_goes_on_as_if_it_had_not_stopped():
    straight, broken = two_copies("cpu")
    first = FusedRAdam(straight, lr=0.01)
    walk(first, straight, 20)
    walk(first, straight, 20, seed=3)
    before = FusedRAdam(broken, lr=0.01)
    walk(before, broken, 20)
    after = FusedRAdam(broken, lr=0.5)
    after.load_state_dict(before.state_dict())
    walk(after, broken, 20, seed=3)
    torch.testing.assert_close(straight, broken, rtol=0, atol=0)


def test_schedules_see_the_published_rate():
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = FusedRAdam([parameter], lr=0.1)
    scheduler = LogLinearSchedulerConfig(final_ratio=0.01, max_steps=10).setup()
    schedule = scheduler.get_scheduler(optimizer, lr_init=0.1)
    for _ in range(10):
        walk(optimizer, [parameter], 1)
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert optimizer.param_groups[0]["eps"] == 1e-8


@pytest.mark.gpu
@pytest.mark.parametrize(("before", "after"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_states_move_between_devices(before, after):
    mine, _ = two_copies(before)
    first = FusedAdam(mine, lr=0.01)
    walk(first, mine, 5)
    moved = [torch.nn.Parameter(parameter.detach().to(after)) for parameter in mine]
    second = FusedAdam(moved, lr=0.01)
    # Copied, as a file would: torch hands the count of steps on as it is.
    second.load_state_dict(deepcopy(first.state_dict()))
    walk(first, mine, 5, seed=2)
    walk(second, moved, 5, seed=2)
    torch.testing.assert_close([p.cpu() for p in mine], [p.cpu() for p in moved])
