"""Law 6: a snapshot restores everything of step k."""

import pytest
import torch
from torch import nn

from prunelab.core.network.snapshot import Snapshot


def make() -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    return net, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)


def train(net, optimizer, schedule, steps: int) -> None:
    g = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 3, 8, 8, generator=g)).square().mean().backward()
        optimizer.step()
        schedule.step()


def everything(net, optimizer, schedule) -> list:
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in net.parameters()]
    return (
        [*(t.clone() for t in net.state_dict().values()), *momenta],
        schedule.get_last_lr(),
        schedule.last_epoch,
    )


def test_parameters_buffers_momentum_and_schedule_return_to_the_captured_step() -> None:
    run = make()
    train(*run, steps=3)
    tensors, lr, epoch = everything(*run)
    identities = [id(p) for p in run[0].parameters()]
    snapshot = Snapshot.from_state_dict(Snapshot.capture(*run).state_dict())
    train(*run, steps=4)
    assert not torch.equal(tensors[0], everything(*run)[0][0])

    snapshot.restore_net(run[0])
    snapshot.restore_optimizer(run[1])
    snapshot.restore_schedule(run[2])
    again, lr_again, epoch_again = everything(*run)
    assert all(torch.equal(a, b) for a, b in zip(tensors, again, strict=True))
    assert (lr, epoch) == (lr_again, epoch_again)
    assert run[1].param_groups[0]["lr"] == lr[0]
    assert identities == [id(p) for p in run[0].parameters()]


def test_a_snapshot_survives_being_restored_and_trained_on_twice() -> None:
    run = make()
    train(*run, steps=2)
    snapshot = Snapshot.capture(*run)
    ends = []
    for _ in range(2):
        snapshot.restore_net(run[0])
        snapshot.restore_optimizer(run[1])
        snapshot.restore_schedule(run[2])
        train(*run, steps=3)
        ends.append(everything(*run)[0])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_snapshot_of_another_net_is_refused_by_tensor() -> None:
    snapshot = Snapshot.capture(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="weight: the snapshot was taken of another network"):
        snapshot.restore_net(nn.Linear(2, 4, bias=False))


def test_what_was_not_captured_cannot_be_restored() -> None:
    net, optimizer, schedule = make()
    snapshot = Snapshot.capture(net)
    with pytest.raises(ValueError, match="no optimizer state"):
        snapshot.restore_optimizer(optimizer)
    with pytest.raises(ValueError, match="no learning-rate schedule"):
        snapshot.restore_schedule(schedule)
