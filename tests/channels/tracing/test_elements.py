"""Where parameters must be cut, worked out by hand."""

import pytest
import torch
from torch import Tensor

from prunelab.channels.tracing.elements import along_line

CHANNELS = torch.tensor([5, 6, 7])
ROW = torch.arange(3)
# (indices of the elements, the line of channels, the parameter's shape; the axis, and the index along it by channel)
FORMS: dict[str, tuple[Tensor, int, tuple[int, ...], tuple[int, list[int], list[int]] | None]] = {
    "itself": (ROW, 0, (3,), (0, [0, 1, 2], [5, 6, 7])),
    "turned round": (ROW.flip(0), 0, (3,), (0, [2, 1, 0], [5, 6, 7])),
    "the columns of a table": (torch.arange(6).view(2, 3), 1, (2, 3), (1, [0, 1, 2], [5, 6, 7])),
    "one row of a table": (torch.arange(6).view(2, 3)[1], 0, (2, 3), (1, [0, 1, 2], [5, 6, 7])),
    "broadcast": (torch.zeros(3, dtype=torch.long), 0, (1,), (0, [], [])),
    "not in it": (torch.full((3,), -1), 0, (3,), (0, [], [])),
    "behind another": (torch.tensor([-1, 0, 1]), 0, (2,), (0, [0, 1], [6, 7])),
    "above another": (torch.stack([ROW, ROW - 4]).clamp_min(-1), 1, (3,), (0, [0, 1, 2], [5, 6, 7])),
    "one of several": (torch.tensor([-1, 0, -1]), 0, (1,), None),
    "a diagonal": (torch.tensor([0, 4, 8]), 0, (3, 3), None),
    "rows that differ": (torch.stack([ROW, ROW.flip(0)]), 1, (3,), None),
}  # fmt: skip


@pytest.mark.parametrize(("indices", "line", "shape", "expected"), FORMS.values(), ids=FORMS)
def test_a_parameter_is_cut_where_its_elements_meet_channels(
    indices: Tensor, line: int, shape: tuple[int, ...], expected: tuple[int, list[int], list[int]] | None
) -> None:
    found = along_line(indices, CHANNELS, line, torch.Size(shape))
    if expected is None or found is None:
        assert found is expected
    else:
        assert (found[0], found[1].tolist(), found[2].tolist()) == expected
