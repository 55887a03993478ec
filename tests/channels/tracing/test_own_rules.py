"""Rules of users: an operation becomes known, and channels for which a rule is wrong are kept."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from prunelab.channels.equivalence.rehearsal import rehearse
from prunelab.channels.tracing import own_rules
from prunelab.channels.tracing.channel_ids import along
from prunelab.channels.tracing.graph import channel_graph
from prunelab.channels.tracing.own_rules import register_rule
from prunelab.channels.tracing.trace import UnknownError
from prunelab.channels.units import Filter
from prunelab.core.network.prunable import prunable_weights

IMAGES = torch.zeros(2, 3, 6, 6)


@torch.library.custom_op("prunelab_tests::backwards", mutates_args=())
def backwards(x: Tensor) -> Tensor:
    return x.flip(1)


@backwards.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.known, self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(backwards(self.first(self.known(x)))))


@pytest.fixture(autouse=True)
def _no_rules_are_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(own_rules, "_RULES", {})
        yield


def units() -> list[str]:
    net = Net()
    return list(Filter().bind(net, prunable_weights(net), IMAGES).numbers)


@pytest.mark.parametrize("operation", [torch.ops.prunelab_tests.backwards, torch.ops.prunelab_tests.backwards.default])
def test_an_operation_with_a_rule_is_known(operation) -> None:
    assert units() == ["known.weight"]
    register_rule(operation)(lambda trace, node: trace.require(node.args[0]).flip(1))
    net = Net()
    filters = Filter().bind(net, prunable_weights(net), IMAGES)
    assert list(filters.numbers) == ["known.weight", "first.weight"]
    keep = {"first.weight": torch.tensor([True, False, False, True, True, True])}
    assert filters.expand(keep)["last.weight"][0, :, 0, 0].tolist() == [True, True, True, False, False, True]
    rehearse(net, filters, keep, IMAGES)


def test_channels_for_which_a_rule_is_wrong_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    register_rule(torch.ops.prunelab_tests.backwards)(lambda trace, node: trace.require(node.args[0]))
    assert units() == ["known.weight"]
    assert "channels of first.weight stay: a copy without some of them differs from the masked one" in caplog.text


def test_a_rule_may_leave_a_call_to_the_default(caplog: pytest.LogCaptureFixture) -> None:
    @register_rule(torch.ops.prunelab_tests.backwards)
    def rule(trace, node) -> None:
        raise UnknownError("of channels by index")

    assert units() == ["known.weight"]
    assert "prunelab_tests.backwards of channels by index, called in the network (Net)" in caplog.text


def test_a_rule_goes_before_one_of_ours() -> None:
    @register_rule(torch.ops.aten.relu)
    def rule(trace, node) -> Tensor:
        return along(trace.coupling.new(node.args[0].meta["val"].shape[1]), 1, node.meta["val"].shape)

    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    places = channel_graph(net, IMAGES).places
    assert ("0.weight", 0) in places
    assert ("2.weight", 1) not in places


def test_ids_in_another_shape_are_refused() -> None:
    register_rule(torch.ops.prunelab_tests.backwards)(lambda trace, node: trace.require(node.args[0])[:, :2])
    with pytest.raises(ValueError, match=r"backwards returns ids of shape \[\(2, 2, 6, 6\)\], its result"):
        units()


def test_an_error_of_a_rule_is_not_swallowed() -> None:
    @register_rule(torch.ops.prunelab_tests.backwards)
    def rule(trace, node) -> None:
        raise IndexError("of one's own")

    with pytest.raises(IndexError, match="of one's own"):
        units()


def test_only_operations_of_torch_take_a_rule() -> None:
    with pytest.raises(TypeError, match=r"register_rule\(.*relu.*\): expected an operation of torch.ops"):
        register_rule(torch.relu)  # type: ignore[arg-type]
