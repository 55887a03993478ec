"""Law 8: a shrunk network gets a certificate if and only if it computes what the masked one did."""

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.channels import units
from prunelab.channels.equivalence.certificate import EquivalenceCheck, EquivalenceError, difference
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.numbers.float32 import float32_name

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Forward = Callable[..., Any]


class Net(nn.Module):
    """Two convolutions, a norm and a head, and how they compute."""

    def __init__(self, forward: Forward = lambda m, x: m.head(m.b(m.bn(m.a(x)).relu()).mean((2, 3)))) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.compute = forward
        self.a, self.bn, self.b, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

    def forward(self, *x: Tensor) -> Any:
        return self.compute(self, *x)


def halve(net: nn.Module, inputs: Any = X) -> EquivalenceCheck:
    """Masks and cuts out every second channel of whatever can go."""
    channels = Channels().bind(net, prunable_weights(net), inputs)
    keep = {name: torch.arange(len(numbers)) % 2 == 0 for name, numbers in channels.numbers.items()}
    for name, mask in channels.expand(keep).items():
        net.get_parameter(name).data.mul_(mask)
    check = EquivalenceCheck(net, inputs)
    shrink(net, channels.plan(keep))
    return check


def noisy(m: nn.Module, x: Tensor) -> Tensor:
    """In train mode; in eval mode the graph would keep the channels of an operation that it does not know."""
    if not m.training:
        return x
    dropped = x.new_empty(x.shape[:2]).bernoulli_(0.5)[..., None, None]  # DropBlock, drop path
    return x * dropped * torch.rand_like(x) + torch.normal(0.0, 1.0, x.shape) + F.rrelu(x, training=True)


COMPARABLE: dict[str, tuple[Forward, Any]] = {
    "plain": (Net().compute, X),
    "dropout by module, by function and of channels": (
        lambda m, x: m.head(F.dropout(nn.Dropout2d(0.5)(F.alpha_dropout(m.a(x), 0.5, True)), 0.5).mean((2, 3))), X),
    "what the code asks to be in float32": (lambda m, x: m.head(m.a(x.float().to(torch.float32)).mean((2, 3))), X),
    "what the code makes": (lambda m, x: m.head(m.a(x + torch.ones(6)).mean((2, 3))) @ torch.eye(5), X),
    "what the code makes in float32": (lambda m, x: m.head(m.a(x).mean((2, 3))) @ torch.eye(5, dtype=torch.float32), X),
    "whole numbers": (lambda m, x, i: m.head(m.a(x).mean((2, 3))) + torch.eye(5)[i], (X, torch.tensor([0, 3, 1, 4]))),
    "noise": (lambda m, x: m.head(m.a(x).mean((2, 3))) + torch.randn(5), X),
    "noise in each channel": (lambda m, x: m.head(m.b(noisy(m, m.bn(m.a(x)))).mean((2, 3))), X),
    "Python's and NumPy's random numbers": (
        lambda m, x: m.head(m.a(x).mean((2, 3))) * random.random() + np.random.rand(), X),
    "a dictionary of outputs": (lambda m, x: {"y": [m.head(m.a(x).mean((2, 3)))], "n": 3, "none": None}, X),
    "in place on the input": (lambda m, x: m.head(m.a(x.mul_(2)).mean((2, 3))), X),
    "an output of zeros": (lambda m, x: m.head(m.a(x).mean((2, 3))) * 0, X),
}  # fmt: skip


@pytest.mark.parametrize(("compute", "inputs"), COMPARABLE.values(), ids=COMPARABLE)
def test_an_equivalent_network_gets_a_certificate(compute: Forward, inputs: Any) -> None:
    net, before = Net(compute), X.clone()
    certificate = halve(net, inputs).certify(net)
    assert max(certificate.eval_float64, certificate.train_float64) < 1e-12
    assert max(certificate.eval_float32, certificate.train_float32) < 1e-5
    assert certificate.inputs == 4
    assert torch.equal(X, before)
    assert net.a.out_channels == 4


def nudge(tensor: Tensor, by: float) -> None:
    tensor.data.view(-1)[0] += by


CHANGES: dict[str, tuple[Callable[[Net], Any], set[str]]] = {
    "a bias": (lambda net: nudge(net.head.bias, 1e-3), {"eval", "train"}),
    "less than float32 can see": (lambda net: nudge(net.head.bias, 1e-7), {"eval", "train"}),
    "running statistics": (lambda net: nudge(net.bn.running_mean, 1e-3), {"eval"}),
    "statistics of the batch": (lambda net: setattr(net.bn, "momentum", 0.5), set()),
    "training alone": (
        lambda net: setattr(net, "compute", lambda m, x, c=net.compute: c(m, x) + 1e-3 * m.training), {"train"}),
    "NaN": (lambda net: nudge(net.head.weight, float("nan")), {"eval", "train"}),
    "infinity": (lambda net: nudge(net.head.bias, float("inf")), {"eval", "train"}),
    "fewer outputs": (
        lambda net: setattr(net, "compute", lambda m, x, c=net.compute: c(m, x)[:, :4]), {"eval", "train"}),
    "outputs that would broadcast": (
        lambda net: setattr(net, "compute", lambda m, x, c=net.compute: c(m, x)[None]), {"eval", "train"}),
    "more outputs": (lambda net: setattr(net, "compute", lambda m, x, c=net.compute: (c(m, x), x)), {"eval", "train"}),
}  # fmt: skip


@pytest.mark.parametrize(("change", "modes"), CHANGES.values(), ids=CHANGES)
def test_any_change_is_refused_with_the_modes_that_show_it(change: Callable[[Net], Any], modes: set[str]) -> None:
    net = Net()
    check = EquivalenceCheck(net, X)
    change(net)
    if modes:
        with pytest.raises(EquivalenceError, match="the shrunk network differs") as error:
            check.certify(net)
        assert set(re.findall(r"in (\w+) mode", str(error.value))) == modes
    else:
        assert check.certify(net).train_float64 == 0


def test_every_output_is_compared() -> None:
    """NaN too, which compares as neither more nor less."""
    for spoilt in range(3):
        net = Net(lambda m, x: [m.head(m.a(x).mean((2, 3))) for _ in range(3)])
        check = EquivalenceCheck(net, X)
        net.compute = lambda m, x, c=net.compute, i=spoilt: [
            y * float("nan") if j == i else y for j, y in enumerate(c(m, x))
        ]
        with pytest.raises(
            EquivalenceError, match="inf in eval mode in torch.float32.*inf in train mode in torch.float64"
        ):
            check.certify(net)


def test_imaginary_parts_are_compared() -> None:
    net = Net(lambda m, x: torch.fft.fft(m.head(m.a(x).mean((2, 3)))).conj())
    check = EquivalenceCheck(net, X)
    assert check.certify(net).train_float64 == 0
    net.compute = lambda m, x, c=net.compute: c(m, x) + 1e-3j
    with pytest.raises(EquivalenceError, match="the shrunk network differs"):
        check.certify(net)


def test_complex_weights_are_computed_with_in_the_precision_of_the_others() -> None:
    net = Net(lambda m, x: m.head(m.b(torch.fft.ifft2(torch.fft.fft2(m.a(x)).cfloat() * m.w).real).mean((2, 3))))
    net.w = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat))
    certificate = halve(net).certify(net)
    assert certificate.eval_float64 < 1e-12
    assert net.w.dtype == torch.cfloat


def test_a_masked_network_that_returns_nan_gets_no_certificate() -> None:
    net = Net(lambda m, x: m.head(m.a(x).mean((2, 3)) / 0))
    with pytest.raises(EquivalenceError, match="own outputs are not finite in eval mode.*look at the inputs"):
        EquivalenceCheck(net, X)
    net = Net()
    nudge(net.head.bias, float("nan"))
    with pytest.raises(EquivalenceError, match=r"own outputs .* head\.bias is not, training has diverged"):
        EquivalenceCheck(net, X)


def test_rounding_amplified_by_the_network_is_tolerated_in_float32_only() -> None:
    def rough(m: Net, x: Tensor, scale: float = 1e5) -> Tensor:
        y = m.head(m.a(x).mean((2, 3))) * scale
        return ((y + 1 / 3) - y) * 3  # 1, of which float32 keeps three digits

    net = Net(rough)
    check = EquivalenceCheck(net, X)
    net.compute = lambda m, x: rough(m, x, 0.7e5)
    certificate = check.certify(net)
    assert certificate.eval_float32 > 1e-4
    assert certificate.eval_float64 < 1e-9
    net.compute = lambda m, x: rough(m, x) + 1e-7
    with pytest.raises(EquivalenceError, match="float64") as error:
        check.certify(net)
    assert "float32" not in str(error.value)


def shuffle(x: Tensor) -> Tensor:
    """Groups of two, however many."""
    return x.view(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


COUNTED: dict[str, tuple[Forward, str]] = {
    "a number in the code": (lambda m, x: m.head(m.b(m.a(x)).mean((2, 3)).view(-1, 8)), "invalid|multiplied"),
    "a number of another value": (
        lambda m, x: m.head(m.b(m.a(x)).flatten(2).mean(2).view(4, m.bn.num_features)), "invalid|multiplied"),
    "groups by the number of channels": (lambda m, x: m.head(m.b(shuffle(m.a(x))).mean((2, 3))), "differs"),
}  # fmt: skip


@pytest.mark.parametrize(("compute", "why"), COUNTED.values(), ids=COUNTED)
def test_hard_coded_channel_counts_are_refused_with_the_line_and_the_remedy(compute: Forward, why: str) -> None:
    """A graph of shapes cannot show where a number came from."""
    net = Net(compute)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "unremovable", lambda *_: {})  # which keeps them
        check = halve(net)
    here = re.escape(f"(at {__file__}:{Net.forward.__code__.co_firstlineno + 1}, `")
    where = "differs" if why == "differs" else f"does not run in eval mode.*({why}).*{here}"
    with pytest.raises(
        EquivalenceError, match=rf"the shrunk network {where}.*take the number from x.shape or write -1.*`skip`"
    ):
        check.certify(net)


def test_a_network_that_cannot_be_compared_is_refused() -> None:
    with pytest.raises(EquivalenceError, match="returns no tensor"):
        EquivalenceCheck(Net(lambda m, x: {"none": None}), X)
    with pytest.raises(
        EquivalenceError, match=r"^the masked network does not run in eval mode.*RuntimeError: .*\(at .*\)$"
    ):
        EquivalenceCheck(Net(), X[:, :2])


def test_the_check_preserves_state() -> None:
    net = Net(lambda m, x: m.head(m.drop(m.bn(m.a(x))).mean((2, 3))))
    net.drop = nn.Dropout()
    net.train()
    net.bn.eval()
    before, stream = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    EquivalenceCheck(net, X).certify(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == [True, True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.get_default_dtype() == torch.float32
    assert all(p.grad is None for p in net.parameters())


def test_a_module_of_two_names_and_a_recurrent_one_are_compared_and_stay_the_networks_own() -> None:
    torch.manual_seed(0)
    core, rnn = nn.Conv2d(8, 8, 3, padding=1), nn.LSTM(16, 4, batch_first=True)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), core, nn.ReLU(), core, nn.Flatten(2), rnn)
    before, outputs = list(net.parameters()), net(X)[0]
    certificate = EquivalenceCheck(net, X).certify(net)
    assert certificate.train_float64 == 0
    assert all(p is q for p, q in zip(before, net.parameters(), strict=True))
    assert rnn._flat_weights[0] is rnn.weight_ih_l0  # by which it runs
    assert torch.equal(net(X)[0], outputs)


def test_float32_is_exact_in_a_comparison_whatever_training_allows() -> None:
    seen: set[str] = set()

    def forward(m: Net, x: Tensor) -> Tensor:
        seen.add(float32_name(x.device))
        return m.head(m.a(x).mean((2, 3)))

    net = Net(forward)
    torch.set_float32_matmul_precision("medium")
    try:
        EquivalenceCheck(net, X).certify(net)
        assert seen == {"float32"}
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("constant", [-1e9, torch.finfo(torch.float32).min, 0.0])
def test_a_constant_that_both_return_hides_no_difference(constant: float) -> None:
    before = torch.tensor([[1.0, 2.0, constant]], dtype=torch.float64)
    after = before + torch.tensor([[0.0, 1e-3, 0.0]], dtype=torch.float64)
    assert difference([before], [after]) > 1e-8
    assert difference([before], [before.clone()]) == 0
    assert difference([before[:, :0]], [before[:, :0]]) == 0
