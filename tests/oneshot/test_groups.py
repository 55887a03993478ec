"""Units and couplings, before anything is cut."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from prunelab import groups, profile, prune


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.hidden, self.head = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x)).relu()
        x = x + self.b(self.a(x).relu())
        return self.head(self.hidden(x.mean((2, 3))).relu())


EXAMPLE = torch.zeros(1, 3, 8, 8)


def test_each_group_names_what_makes_its_units_what_reads_them_and_what_goes_with_them() -> None:
    found = groups(Residual(), EXAMPLE, granularity="channels")
    assert [(g.name, g.units, g.makers, g.readers) for g in found] == [
        ("stem.weight", 8, ("stem.weight", "b.weight"), ("a.weight", "hidden.weight")),
        ("a.weight", 4, ("a.weight",), ("b.weight",)),
        ("hidden.weight", 6, ("hidden.weight",), ("head.weight",)),
    ]
    assert set(found[0].others) == {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "b.bias"}
    assert found.stays == {"head.weight": "the output of the network"}
    assert len(found) == 3


def test_a_group_is_vetoed_by_its_name_and_so_is_what_is_coupled_to_it() -> None:
    net = Residual()
    veto = [group.name for group in groups(net, EXAMPLE) if len(group.makers) > 1]
    left = groups(net, EXAMPLE, granularity="filter", skip=veto)
    assert [group.name for group in left] == ["a.weight"]
    assert left.stays == {
        "stem.weight": "skip='stem.weight'",
        "b.weight": "coupled to stem.weight, skipped or frozen",
        "hidden.weight": "has no units of this kind",
        "head.weight": "the output of the network",
    }
    _, report = prune(net, EXAMPLE, rate=0.5, skip=veto)
    assert report.units == {"a.weight": (2, 4)}
    assert report.stays == left.stays


def test_the_table_shows_couplings_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = str(groups(Residual(), EXAMPLE)).splitlines()
    assert "stem.weight 8 stem, b a, hidden" in [" ".join(line.split()) for line in lines]
    assert lines[-1].strip() == "head.weight: the output of the network"


def test_blocks_are_shown_with_their_weights() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(x)

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Block(), Block())
    (found,) = groups(net, EXAMPLE, granularity="block")
    assert (found.units, found.makers) == (2, ("1.conv.weight", "2.conv.weight"))


def test_single_weights_have_no_couplings() -> None:
    with pytest.raises(ValueError, match="granularity='weight': single weights are not coupled"):
        groups(Residual(), EXAMPLE, granularity="weight")


def test_by_default_they_are_what_prune_chooses_from() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 10))
    example = torch.zeros(1, 3, 8, 8)
    for asked in ({}, {"granularity": "channels"}):
        _, report = prune(net, example, rate=0.5, **asked)
        assert [group.name for group in groups(net, example, **asked)] == [*report.units]


@pytest.mark.parametrize("colours", ["", "1"])
def test_text_is_text_in_a_notebook_and_where_colours_are_forced(colours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich would show it there, and return nothing."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 10))
    example = torch.zeros(1, 3, 4, 4)
    _, report = prune(net, example, rate=0.5)
    told = (report, groups(net, example), profile(net, example))
    before = [str(each) for each in told]
    shell = type("ZMQInteractiveShell", (), {})
    monkeypatch.setattr("builtins.get_ipython", shell, raising=False)
    monkeypatch.setenv("FORCE_COLOR", colours)
    for each, plain in zip(told, before, strict=True):
        assert len(plain) > 50
        assert str(each) == plain
    for each in told:
        shown: list[str] = []
        each._repr_pretty_(SimpleNamespace(text=shown.append), cycle=False)
        assert shown == [str(each)]
