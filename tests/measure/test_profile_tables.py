"""Tables of a profile at any width: no number is cut, and notes say what is missing."""

import dataclasses

import pytest
from rich.console import Console

from prunelab.measure.profile import Layer, NetworkCost, Pass, Profile, text


def layer(name: str, left: float, bits: int = 32) -> Layer:
    nonzero, macs = int(1000 * left), int(2_000_000 * left)
    bops = bits * 32
    return Layer(
        name=name,
        kind="Conv2d",
        params=1000,
        nonzero=nonzero,
        macs=2_000_000,
        effective_macs=macs,
        bops=2_000_000 * bops,
        effective_bops=macs * bops,
        weight_bits=bits,
        activation_bits=32,
    )


def costs(left: float, peak: int | None = 4096) -> NetworkCost:
    norm = Layer(name="norm", kind="BatchNorm2d", params=20, nonzero=10, weight_bits=None, activation_bits=None)
    layers = (layer("features.conv1", left), layer("features.conv2", left), norm)
    passes = tuple(Pass(n, n * left / 1e3, 0.0009, 0.0123, peak) for n in (1, 128))
    sums = {key: sum(getattr(x, key) for x in layers) for key in ("params", "nonzero", "macs", "effective_macs")}
    bops = {"bops": 4_096_000_000, "effective_bops": int(4_096_000_000 * left)}
    return NetworkCost(
        **sums,
        **bops,
        name="Net",
        bytes=8080,
        footprint_bits=64,
        passes=passes,
        layers=layers,
        uncounted={},
        unseen=(),
    )


def beside(**changes: object) -> Profile:
    return Profile(
        dataclasses.replace(costs(0.25), **changes), costs(1.0), "cpu", 1, "float32, not compiled", 20, "by hand"
    )


def row(page: str, name: str) -> str:
    (line,) = [line for line in page.splitlines() if line.strip().startswith(name)]
    return " ".join(line.split())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    page = text(beside(), width)
    assert max(map(len, page.splitlines())) <= width
    assert "…" not in page
    assert "250 25.0 % 0.750" in " ".join(page.split())


def test_a_wide_terminal_shows_every_column_and_a_narrow_one_the_most_important() -> None:
    wide, narrow = text(beside(), 120), text(beside(), 80)
    assert row(wide, "features.conv1") == "features.conv1 Conv2d 1k 250 25.0 % 0.750 2M 500k 512M 25.0 %"
    assert row(narrow, "features.conv1") == "features.conv1 250 25.0 % 0.750 2M 500k 25.0 %"


def test_totals_stand_beside_those_of_the_dense_network() -> None:
    page = text(beside(), 80)
    assert "Net beside its dense network, Net, on cpu, 1 thread" in page
    assert row(page, "MACs, effective") == "MACs, effective 1M 4M 25.0 %"
    assert row(page, "bytes, footprint") == "bytes, footprint 8 8 100.0 %"
    assert row(page, "seconds, batch 128") == "seconds, batch 128 32 ms 128 ms 25.0 %"
    assert row(page, "seconds, batch 1 ") == "seconds, batch 1 250 us 1 ms 25.0 %"
    assert "0.9 - 12.3 ms" in page
    assert row(page, "sparsity") == "sparsity 0.748 0.005"
    assert "\nnorm " not in page  # it has no products, so it is among the others
    assert row(page, "all others") == "all others 10 100.0 % 0.500 0 0"


def test_without_a_dense_network_nothing_is_compared() -> None:
    page = text(dataclasses.replace(beside(), dense=None, threads=2), 80)
    assert "Net, on cpu, 2 threads" in page
    assert "left" not in page
    assert row(page, "parameters ") == "parameters 2.02k"
    assert row(page, "features.conv2") == "features.conv2 Conv2d 1k 250 0.750 2M 500k"


def test_bits_have_a_column_where_they_differ() -> None:
    mixed = (layer("a", 1.0, bits=8), layer("b", 1.0))
    page = text(beside(layers=mixed), 120)
    assert "8 x 32" in row(page, "a ")
    assert "(32 x 32, 8 x 32)" in page


def test_notes_name_what_is_not_counted_removed_or_not_measured() -> None:
    page = text(beside(uncounted={"": 3000, "block.attn": 500}, unseen=("lstm.weight_ih_l0",)), 120)
    assert "Not counted: 3.5k MACs outside layers, in Net, block.attn." in page
    page = text(beside(uncounted=dict.fromkeys("abcde", 10), unseen=("lstm.weight_ih_l0",)), 120)
    assert "Not counted: 50 MACs outside layers, in a, b, c and 2 more." in page
    assert "any products with lstm.weight_ih_l0." in page
    assert "removed: features.conv2." in text(beside(layers=(layer("features.conv1", 1.0),)), 120)
    unknown = Profile(
        costs(1.0, peak=None), None, "abacus", 1, "float32", 20, "not measured: there is no way to on abacus"
    )
    assert "peak bytes" not in text(unknown, 120)
    assert "Peak: not measured" in text(unknown, 120)


def test_print_and_rich_show_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    console = Console(width=90)
    with console.capture() as shown:
        console.print(beside())
    assert [line.rstrip() for line in shown.get().splitlines()] == str(beside()).splitlines()
