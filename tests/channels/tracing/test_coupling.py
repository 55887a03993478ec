"""Coupling against a brute-force search, and channel ids against the operations themselves."""

import pytest
import torch
from torch import Tensor

from prunelab.channels.tracing.channel_ids import along, channels_of, concatenate, thin, varying
from prunelab.channels.tracing.coupling import Coupling


def searched(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest id that each is connected to, by relaxing until nothing changes."""
    smallest = list(range(count))
    while True:
        before = list(smallest)
        for a, b in pairs:
            smallest[a] = smallest[b] = min(smallest[a], smallest[b])
        if smallest == before:
            return smallest


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_connected_components_by_their_smallest_id(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    coupling, pairs = Coupling(), []
    channels = coupling.new(30)
    assert channels.tolist() == list(range(1, 31))  # 0 stands for values that no layer produces
    for _ in range(6):
        a, b = channels[torch.randint(0, 30, (2, 3), generator=g)]
        coupling.join(a, b)
        pairs += list(zip(a.tolist(), b.tolist(), strict=True))
    assert coupling.classes().tolist() == searched(31, pairs)


def test_broadcast_operands_are_joined_position_by_position() -> None:
    coupling = Coupling()
    a, b, c = coupling.new(2), coupling.new(2), coupling.new(1)
    coupling.join(along(a, 1, torch.Size([2, 2, 5, 5])), b.view(2, 1, 1))
    assert coupling.classes().tolist() == [0, 1, 2, 1, 2, 5]
    coupling.join(a, c)
    assert coupling.classes().tolist() == [0, 1, 1, 1, 1, 1]


def test_channels_are_joined_within_each_row() -> None:
    coupling = Coupling()
    coupling.join_rows(coupling.new(6).view(2, 3))
    assert coupling.classes().tolist() == [0, 1, 1, 1, 4, 4, 4]


def test_a_class_stays_for_the_first_reason_given_for_any_member() -> None:
    coupling = Coupling()
    a, b = coupling.new(3), coupling.new(3)
    coupling.keep(b[:1], "first")
    coupling.keep(a, "second")
    coupling.join(a, b)
    assert coupling.stays() == {0: "the input of the network", 1: "first", 2: "second", 3: "second"}


def test_channels_coupled_to_the_input_stay() -> None:
    coupling = Coupling()
    a = coupling.new(2)
    coupling.join(a[:1], torch.zeros(1, dtype=torch.long))
    assert coupling.stays() == {0: "the input of the network"}
    assert coupling.classes().tolist() == [0, 0, 2]


# (ids, the axes along which they vary)
FORMS = {
    "along one axis": (along(torch.arange(4), 1, torch.Size([2, 4, 3])), [1]),
    "nowhere": (torch.full((2, 3), 7), []),
    "an axis of one": (along(torch.arange(1), 1, torch.Size([2, 1, 3])), []),
    "filled in": (along(torch.arange(4), 1, torch.Size([2, 4, 3])).contiguous(), [1]),
    "along two axes": (torch.arange(6).view(2, 1, 3).expand(2, 5, 3).contiguous(), [0, 2]),
    "behind a permutation": (along(torch.arange(4), 1, torch.Size([2, 4, 3])).permute(2, 0, 1), [2]),
}


@pytest.mark.parametrize(("ids", "axes"), FORMS.values(), ids=FORMS)
def test_thin_ids_are_equal_and_show_where_they_vary(ids: Tensor, axes: list[int]) -> None:
    slim = thin(ids)
    assert torch.equal(slim, ids)
    assert varying(slim) == axes
    assert all(slim.stride(axis) == 0 for axis, size in enumerate(slim.shape) if axis not in axes and size > 1)


@pytest.mark.parametrize("axis", [1, -2])
def test_channels_along_more_than_one_axis_are_none(axis: int) -> None:
    ids = along(torch.tensor([5, 7]), axis, torch.Size([3, 2, 4]))
    assert channels_of(ids, axis).tolist() == [5, 7]
    assert channels_of(ids, -1) is None
    assert channels_of(thin(torch.full((3, 2), 9)), 1).tolist() == [9, 9]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_ids_are_concatenated_as_values_are(axis: int) -> None:
    parts = [along(torch.arange(i, i + 2), 1, torch.Size([2, 2, 2])) for i in (1, 5)]
    assert torch.equal(concatenate(parts, axis), torch.cat(parts, axis))
    apart = concatenate(parts, 1)
    assert apart.stride(0) == apart.stride(2) == 0  # constant axes stay unexpanded
