"""One call prunes a plain network: what goes is known by hand, the rest computes the same, errors change nothing."""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import option_b
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prunelab import Cubic, Filter, Norm, Progress, Pruner, Taylor, Uniform, groups, load, prune, save
from prunelab.channels.equivalence.certificate import EquivalenceError

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Net(nn.Module):
    """Two convolutions with a norm between, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.bn, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.bn(self.a(x)).relu()).relu().mean((2, 3)))


class Written(nn.Module):
    """A size that is written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x).view(-1, 512))


class Counted(nn.Module):
    """Runs at any width, and computes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x).mean((2, 3)) * self.a.out_channels)


def batches(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(size, 3, 8, 8, generator=g), torch.randint(4, (size,), generator=g)) for _ in range(count)]


def step(net: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> None:
    cross_entropy(net(batch[0]), batch[1]).backward()
    optimizer.step()
    optimizer.zero_grad()


def state(net: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(net.state_dict())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_filters_of_the_smallest_norm_go_with_all_that_belongs_to_them() -> None:
    net = Net()
    with torch.no_grad():
        for layer, norms in ((net.a, (4, 1, 8, 2, 6, 3, 7, 5)), (net.b, (1, 6, 2, 5, 3, 4))):
            for row, norm in zip(layer.weight, norms, strict=True):
                row.mul_(norm / row.abs().sum())
    before = state(net)
    small, report = prune(net, EXAMPLE, rate=0.5)
    first, second = [2, 4, 6, 7], [1, 3, 5]
    kept = {
        "a.weight": before["a.weight"][first],
        "a.bias": before["a.bias"][first],
        **{f"bn.{name}": before[f"bn.{name}"][first] for name in ("weight", "bias", "running_mean", "running_var")},
        "bn.num_batches_tracked": before["bn.num_batches_tracked"],
        "b.weight": before["b.weight"][second][:, first],
        "b.bias": before["b.bias"][second],
        "head.weight": before["head.weight"][:, second],
        "head.bias": before["head.bias"],
    }
    assert same(small.state_dict(), kept)
    assert same(net.state_dict(), before)
    assert report.units == {"a.weight": (4, 8), "b.weight": (3, 6)}
    assert (report.before.params, report.after.params) == tuple(
        sum(p.numel() for p in n.parameters()) for n in (net, small)
    )
    assert report.stays == {"head.weight": "the output of the network"}
    assert small(torch.randn(2, 3, 8, 8)).shape == (2, 4)


@pytest.mark.parametrize("budget", ["params", "macs", "bops"])
def test_a_budget_is_met(budget: str) -> None:
    _, report = prune(option_b(), torch.zeros(1, 3, 32, 32), rate=0.4, budget=budget, allocation="global")
    left = {name: getattr(report.after, name) / getattr(report.before, name) for name in ("params", "macs", "bops")}
    assert left[budget] == pytest.approx(0.6, abs=0.01)
    assert report.attained == pytest.approx(1 - left[budget], abs=1e-6)


def test_widths_are_rounded() -> None:
    net, example = option_b(), torch.zeros(1, 3, 32, 32)
    small, report = prune(net, example, rate=0.4, budget="macs", allocation="global", round_to=4)
    widths = [module.out_channels for module in small.modules() if isinstance(module, nn.Conv2d)]
    assert all(width % 4 == 0 for width in widths)
    assert report.attained == pytest.approx(0.4, abs=0.01)
    with pytest.raises(ValueError, match="round_to=128: no layer has as many channels"):
        prune(net, example, rate=0.4, round_to=128)


def test_in_place_parameters_keep_their_identity_and_momentum_is_cut_with_them() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    step(net, optimizer, batches(1)[0])
    owned, momentum = list(net.parameters()), optimizer.state[net.a.weight]["momentum_buffer"].clone()
    cut, report = prune(net, EXAMPLE, rate=0.5, optimizer=optimizer, inplace=True)
    assert cut is net
    assert all(p is q for p, q in zip(net.parameters(), owned, strict=True))
    kept = report.plan.keep["a.weight", 0]
    assert torch.equal(optimizer.state[net.a.weight]["momentum_buffer"], momentum[kept])
    step(net, optimizer, batches(1)[0])


def test_in_place_and_of_a_copy_the_small_network_is_the_same() -> None:
    net = Net()
    small, report = prune(net, EXAMPLE, rate=0.5)
    again, repeated = prune(net, EXAMPLE, rate=0.5, inplace=True)
    assert same(small.state_dict(), again.state_dict())
    assert report.plan.to_json() == repeated.plan.to_json()


def test_calls_may_be_repeated_with_training_in_between() -> None:
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters())
    widths = []
    for batch in batches(3):
        step(net, optimizer, batch)
        prune(net, EXAMPLE, rate=0.25, optimizer=optimizer, inplace=True)
        widths.append(net.a.out_channels)
    assert widths == [6, 4, 3]  # a quarter of what is left


def test_the_plan_of_two_calls_loads_what_they_left(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.Flatten(), nn.Linear(216, 4)
        )

    first, one = prune(network(), EXAMPLE, rate=0.5, granularity="channels")
    second, two = prune(first, EXAMPLE, rate=0.5, granularity="channels")
    assert str(second[1]) == "GroupNorm(1, 2, eps=1e-05, affine=True, bias=True)"
    for net in (second, network()):  # cut once more than by this plan, and not at all
        with pytest.raises(ValueError, match=r"0\.weight is .*, and the plan keeps 4 .*: that is of another network"):
            save(tmp_path / "net", net, one.plan, None, {})
    assert not (tmp_path / "net").exists()
    save(tmp_path / "net", second, one.plan.then(two.plan), None, {})
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(load(tmp_path / "net", into=network())(x), second.eval()(x))


def test_what_a_pruner_has_masked_in_training_is_what_one_call_removes() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    pruner = Pruner(Norm(p=1), Filter(), Uniform(), Cubic(rate=0.5, start=0, end=0.5))
    pruner.attach(net, EXAMPLE)
    for number, batch in enumerate(batches(8)):
        pruner.update(Progress(step=number, total=8, epoch=8))
        step(net, optimizer, batch)
        pruner.apply(optimizer)
    x = torch.randn(4, 3, 8, 8)
    masked, alive = net.eval()(x), net.a.weight.flatten(1).any(1)
    small, report = prune(net, EXAMPLE, rate=0.5)
    assert report.plan.keep["a.weight", 0].tolist() == alive.nonzero().flatten().tolist()
    torch.testing.assert_close(small(x), masked, rtol=1e-5, atol=1e-6)


def test_no_more_data_is_read_than_the_criterion_scores_on() -> None:
    read: list[int] = []

    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(batches(5)):
            read.append(number)
            yield batch

    named, _ = prune(Net(), EXAMPLE, rate=0.5, criterion="taylor", criterion__batches=3, data=stream())
    assert read == [0, 1, 2]
    chosen, report = prune(Net(), EXAMPLE, rate=0.5, criterion=Taylor(batches=3), data=batches(3), loss=cross_entropy)
    assert same(named.state_dict(), chosen.state_dict())
    assert report.certificate.inputs == 8


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 3), nn.Linear(5, 3), nn.Linear(3, 2)
        with torch.no_grad():
            self.b.weight.zero_()
            self.b.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head((self.a(x) + self.b(y)).relu())


def test_several_inputs_are_a_tuple_in_data_as_in_the_example() -> None:
    x, y = torch.ones(6, 4), torch.zeros(6, 5)
    x[:, 1] = 100.0
    net, example = Two(), (x[:1], y[:1])
    with torch.no_grad():
        net.a.weight.copy_(torch.eye(3, 4))  # Wanda multiplies by norms of inputs: the second neuron reads the largest
    chosen: dict[str, Any] = {"granularity": "neuron", "criterion": "wanda", "criterion__batches": 1}
    _, report = prune(net, example, rate=0.6, data=[((x, y), None)], **chosen)
    assert report.plan.keep["a.weight", 0].tolist() == [1]
    assert report.certificate.inputs == 6
    for batch in ((x, y), (x, y, torch.zeros(6)), ((x, x), None)):
        with pytest.raises(ValueError, match=r"the example is \(1, 4\), \(1, 5\): .*, as \(\(a, b\), targets\)"):
            prune(net, example, rate=0.6, data=[batch], **chosen)


def test_bare_inputs_serve_criteria_without_targets_and_a_loss_of_ones_own() -> None:
    inputs = [x for x, _ in batches(2)]
    prune(Net(), EXAMPLE, rate=0.5, criterion="wanda", criterion__batches=2, data=inputs)
    prune(Net(), EXAMPLE, rate=0.5, criterion="taylor", data=inputs, loss=lambda outputs, _: outputs.square().mean())


def test_batches_of_one_are_not_what_is_compared() -> None:
    """Batch norm has no variance of one; a network of pooled features would not run."""
    net = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    _, report = prune(net, EXAMPLE, rate=0.5, data=batches(1, size=1))
    assert report.certificate.inputs == 2


def test_the_report_says_what_went_and_why_the_rest_stayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    net = Net()
    net.a.requires_grad_(False)
    _, report = prune(net, EXAMPLE, rate=0.5, budget=None, skip=["head*"])
    assert report.stays == {"a.weight": "frozen", "head.weight": "skip='head*'"}
    text = str(report)
    assert "Net: removed 0.5 of units, 0.5 was asked for" in text
    assert "6x8x1x1" in text
    assert "3x8x1x1" in text
    assert "a.weight: frozen" in text
    assert "Certificate: on 2 inputs" in text


@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_products_that_are_not_counted_are_told_beside_the_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 6, 1))
            self.lstm, self.head = nn.LSTM(6, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(self.convs(x).transpose(1, 2))[0][:, -1])

    monkeypatch.setenv("COLUMNS", "200")
    _, report = prune(Recurrent(), torch.randn(2, 3, 10), rate=0.5, budget="macs")
    assert "Not counted: any products with lstm.weight_ih_l0, lstm.weight_hh_l0." in str(report)


def test_a_wrapper_of_torch_compile_is_pruned_as_what_is_in_it(tmp_path: Path) -> None:
    net, wrapped = Net(), torch.compile(Net())
    small, report = prune(net, EXAMPLE, 0.5, skip=["b*"])
    same, compiled = prune(wrapped, EXAMPLE, 0.5, skip=["b*"])
    assert str(compiled) == str(report)
    assert compiled.plan.keep.keys() == report.plan.keep.keys()
    assert all(torch.equal(w, same.state_dict()[name]) for name, w in small.state_dict().items())
    cut, _ = prune(wrapped, EXAMPLE, 0.5, skip=["b*"], inplace=True)
    assert cut is wrapped
    assert wrapped._orig_mod.a.out_channels == 4
    for values in ("float16", "int8", "float32"):
        sizes = [save(tmp_path / "net", one, compiled.plan, None, {}, values) for one in (small, wrapped)]
        assert sizes[0] == sizes[1]
    for into in (Net(), torch.compile(Net())):
        assert load(tmp_path / "net", into=into) is into
        assert torch.equal(next(into.parameters()), small.a.weight)
        assert not any(module.training for module in into.modules())
    assert [group.name for group in groups(torch.compile(net), EXAMPLE)] == ["a.weight", "b.weight"]


def test_removed_blocks_are_in_the_report() -> None:
    _, report = prune(option_b(), torch.zeros(1, 3, 32, 32), rate=0.5, granularity="block")
    assert "removed" in str(report)
    assert {name for name, (_, after) in report.shapes.items() if after is None}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "percent": ({"rate": 50}, "rate=50: .* write rate=0.5"),
    "rate": ({"rate": 1.0}, r"rate=1.0: expected a fraction in \[0, 1\)"),
    "example": ({"example": torch.zeros(1, 1, 8, 8)}, r"example of shape \(1, 1, 8, 8\): .* 3 channels"),
    "kind of example": ({"example": {"x": EXAMPLE}}, "example is a dict: expected a tensor"),
    "no data": ({"criterion": "taylor"}, "criterion='taylor' scores on training data: add data="),
    "unknown criterion": ({"criterion": "tailor"}, "criterion='tailor': did you mean taylor"),
    "unknown option": ({"criterion__q": 2}, "option of criterion='q': there are: p"),
    "unknown part": ({"schedule__end": 0.5}, "part='schedule': there are: allocation, criterion, granularity"),
    "unknown argument": ({"critereon": "l1"}, "critereon='l1': no such argument"),
    "option of an object": ({"criterion": Norm(p=1), "criterion__p": 2}, "criterion__p: criterion is an object"),
    "watches": ({"criterion": "movement"}, "comes from training"),
    "learned": ({"criterion": "factor"}, "comes from training"),
    "weights": ({"granularity": "weight"}, "granularity='weight': single weights are not removed"),
    "no such units": ({"granularity": "block"}, "no residual blocks"),
    "nothing left": ({"skip": ["*"]}, "every prunable weight is skipped"),
    "pattern": ({"skip": ["foot*"]}, "skip='foot.*' matches no prunable weight"),
    "budget": ({"budget": "flops"}, "budget=flops: expected one of units"),
    "beyond reach": ({"budget": "macs", "rate": 0.9, "skip": ["a.weight"]}, "rate=0.9 of macs: at most 0.1.* can be"),
    "few batches": ({"criterion": "wanda", "data": batches(1)}, "ends after 1 of the 10 batches"),
    "shape of data": ({"data": [torch.zeros(2, 1, 28, 28)]}, r"shape \(2, 1, 28, 28\), the example is \(1, 3"),
    "kind of data": ({"data": [{"x": EXAMPLE}]}, "data= has a batch of type dict"),
    "no targets": ({"criterion": "taylor", "data": [EXAMPLE]}, "no targets for cross-entropy"),
    "optimizer of a copy": ({"optimizer": torch.optim.SGD(Net().parameters())}, "add inplace=True"),
    "another optimizer": (
        {"optimizer": torch.optim.SGD(Net().parameters()), "inplace": True}, "SGD has no parameter of net"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_an_error_is_one_line_and_nothing_is_changed(arguments: dict[str, Any], message: str) -> None:
    net = Net()
    before = state(net)
    with pytest.raises(ValueError, match=message) as caught:
        prune(net, **{"example": EXAMPLE, "rate": 0.5, "inplace": True} | arguments | _inplace(arguments))
    assert "\n" not in str(caught.value)
    assert same(net.state_dict(), before)


def _inplace(arguments: dict[str, Any]) -> dict[str, bool]:
    return {"inplace": False} if "optimizer" in arguments and "inplace" not in arguments else {}


GREY = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
VECTORS = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
ALONE = {
    "an image": (Net(), torch.zeros(3, 8, 8), r"\(3, 8, 8\) has no batch axis: expected \(1, 3, 8, 8\), as x\[None\]"),
    "a grey one, which passes for a batch": (GREY, torch.zeros(1, 8, 8), r"\(1, 8, 8\) has no .* \(1, 1, 8, 8\)"),
    "a vector": (VECTORS, torch.zeros(6), r"\(6,\) has no batch axis: expected \(1, 6\)"),
    "a number": (VECTORS, torch.tensor(1.0), r"example of shape \(\): expected tensors \(n, \.\.\.\), n >= 1"),
    "nothing": (VECTORS, torch.zeros(0, 6), r"example of shape \(0, 6\): expected tensors"),
}


@pytest.mark.parametrize(("net", "example", "message"), ALONE.values(), ids=ALONE)
@pytest.mark.parametrize("call", [partial(prune, rate=0.5), groups])
def test_an_example_without_a_batch_axis_is_refused_at_once(
    net: nn.Module, example: Tensor, message: str, call: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        call(net, example, granularity="channels")


class OfSixteen(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(16, 3, 8, 8))


def test_a_network_of_a_fixed_batch_is_not_told_of_a_batch_axis() -> None:
    with pytest.raises(Exception, match="16") as caught:
        prune(OfSixteen(), torch.zeros(16, 3, 8, 8), rate=0.5)
    assert "batch axis" not in str(caught.value)


@pytest.mark.parametrize("net", [Written(), Counted()], ids=["does not run", "computes something else"])
def test_a_network_that_the_certificate_refuses_is_left_as_it_was(net: nn.Module) -> None:
    before = state(net)
    with pytest.raises((EquivalenceError, ValueError), match="the shrunk network|no filters"):
        prune(net, EXAMPLE, rate=0.5, inplace=True)
    assert same(net.state_dict(), before)


def test_at_rate_0_nothing_goes() -> None:
    net = Net()
    small, report = prune(net, EXAMPLE, rate=0.0)
    assert same(small.state_dict(), net.state_dict())
    assert report.units == {"a.weight": (0, 8), "b.weight": (0, 6)}
    assert not report.plan
    assert "removed 0 of units" in str(report)


def test_no_channel_of_a_single_layer_can_be_removed() -> None:
    with pytest.raises(ValueError, match=r"no filters to prune \(weight: the output of the network\)"):
        prune(nn.Conv2d(3, 4, 1), EXAMPLE, rate=0.5)


def test_pruning_does_not_import_lightning() -> None:
    code = (
        "import sys, torch, prunelab; from torch import nn\n"
        "net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))\n"
        "small, report = prunelab.prune(net, torch.zeros(1, 3, 4, 4), rate=0.5); str(report)\n"
        "print(prunelab.groups(net, torch.zeros(1, 3, 4, 4)) is None, 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
