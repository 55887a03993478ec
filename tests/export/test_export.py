"""Exported files compute what their network computes, for any batch size, or are not written."""

import copy
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import prunelab.export
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.network.prunable import prunable_weights
from prunelab.export import FORMATS, ExportError, agreement, program
from prunelab.models.cifar_resnet import resnet8

EXAMPLE = torch.zeros(1, 3, 32, 32)
Run = Callable[..., list[Tensor]]


def run_onnx(path: Path, *inputs: Tensor) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(value) for value in session.run(None, given)]


def run_pt2(path: Path, *inputs: Tensor) -> list[Tensor]:
    out: Any = torch.export.load(path).module()(*inputs)
    return [out] if isinstance(out, Tensor) else list(out)


def stored_onnx(path: Path) -> list[Tensor]:
    import onnx

    return [torch.tensor(onnx.numpy_helper.to_array(array)) for array in onnx.load(path).graph.initializer]


def stored_pt2(path: Path) -> list[Tensor]:
    return list(torch.export.load(path).state_dict.values())


RUN: dict[str, Run] = {"onnx": run_onnx, "pt2": run_pt2}
STORED: dict[str, Callable[[Path], list[Tensor]]] = {"onnx": stored_onnx, "pt2": stored_pt2}


@pytest.fixture(scope="module", params=sorted(FORMATS))
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason=f"ONNX needs {package}: pip install 'prunelab[export]'")
    if request.param not in RUN:
        pytest.skip(f"{request.param} is not run by another runtime: it is tested elsewhere")
    return str(request.param)


def small_resnet() -> nn.Module:
    """With half of its filters removed, half of the other weights masked, and batch norms that have seen images."""
    torch.manual_seed(0)
    net = resnet8().to(memory_format=torch.channels_last)
    filters = Filter().bind(net, prunable_weights(net), torch.zeros(2, 3, 32, 32))
    scores = {group: torch.rand(len(units)) for group, units in filters.numbers.items()}
    shrink(net, filters.plan(Uniform()(scores, 0.5)))
    with torch.no_grad():
        for w in prunable_weights(net).values():
            w.mul_(w.abs() > w.abs().median())
    net(torch.randn(8, 3, 32, 32))
    net.get_submodule("bn1").eval()
    return net


class Exported(NamedTuple):
    """A file, its network, and what that was before."""

    path: Path
    net: nn.Module
    before: nn.Module


@pytest.fixture(scope="module")
def exported(form: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    net, path = small_resnet(), tmp_path_factory.mktemp("exported") / "net"
    before = copy.deepcopy(net)
    FORMATS[form](net, EXAMPLE, path)
    return Exported(path, net, before)


def test_the_file_of_a_small_net_computes_the_same_for_any_batch(form: str, exported: Exported) -> None:
    net = copy.deepcopy(exported.net).eval()
    for n in (1, 16):
        images = torch.randn(n, 3, 32, 32)
        expected = net(images)
        (found,) = RUN[form](exported.path, images)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert [path.name for path in exported.path.parent.iterdir()] == ["net"]


def test_the_network_is_not_changed(exported: Exported) -> None:
    net, before = exported.net, exported.before
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in net.state_dict().items())


def test_masked_weights_are_zeros_in_the_file_too(form: str, exported: Exported) -> None:
    weights = sorted((w.numel(), int((w == 0).sum())) for w in STORED[form](exported.path) if w.dim() in (2, 4))
    assert weights == sorted((w.numel(), int((w == 0).sum())) for w in prunable_weights(exported.before).values())
    assert any(zeros for _, zeros in weights)


def test_the_file_contains_no_path_of_the_machine(exported: Exported) -> None:
    parts = [exported.path.read_bytes()]
    if zipfile.is_zipfile(exported.path):
        with zipfile.ZipFile(exported.path) as archive:
            parts = [archive.read(name) for name in archive.namelist()]
    places = (Path(torch.__file__).parent, Path(prunelab.export.__file__).parents[2], exported.path.parent)
    assert not [place for place in places for part in parts if str(place).encode() in part]


class Two(nn.Module):
    """Takes and returns two tensors; the integers are indices, which noise would not be."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(self, words: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.words(words).mean(1) * scale
        return mean, self.last(mean)


def test_several_inputs_and_outputs_keep_their_order(form: str, tmp_path: Path) -> None:
    net, inputs = Two(), (torch.tensor([[0, 4, 2]]), torch.ones(1, 4))
    FORMATS[form](net, inputs, tmp_path / "net")
    given = (torch.tensor([[1, 1, 2], [4, 0, 3]]), torch.randn(2, 4))
    for found, expected in zip(RUN[form](tmp_path / "net", *given), net(*given), strict=True):
        torch.testing.assert_close(found, expected)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=True)


def test_a_file_that_differs_is_not_written_and_an_old_one_stays(form: str, tmp_path: Path) -> None:
    (tmp_path / "net").write_text("old")
    with pytest.raises(ExportError, match=r"differs from PyTorch by .*; allowed: 0.0001"):
        FORMATS[form](Noisy(), torch.ones(2, 64), tmp_path / "net")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("net", "old")]


@pytest.mark.parametrize(("factor", "differs"), [(1 + 5e-5, False), (1 + 2e-4, True), (float("nan"), True)])
def test_the_tolerance_is_a_fraction_of_the_largest_output(factor: float, differs: bool) -> None:
    net = nn.Linear(4, 3).eval()

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        return [net(*inputs).detach() * factor]

    if differs:
        with pytest.raises(ExportError, match="differs"):
            agreement.check(net, (torch.ones(2, 4),), run)
    else:
        assert 4e-5 < agreement.check(net, (torch.ones(2, 4),), run) < 6e-5


def given(*outputs: list[float]) -> tuple[nn.Module, Callable[..., list[Tensor]]]:
    """A network that returns the first of `outputs`, and what would run its file, which returns the second."""

    class Given(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return run(outputs[0])

    def run(values: list[float]) -> list[Tensor]:
        return [torch.tensor(value) for value in values]

    return Given(), lambda _: run(outputs[1])


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("network", "file", "differs"),
    [
        ([-INF, 2.0], [-INF, 2.0], 0),
        ([-INF, 2.0], [-INF, 2.0001], 5e-5),
        ([INF], [INF], 0),
        ([-INF, 2.0], [-1e9, 2.0], INF),
        ([-INF, 2.0], [INF, 2.0], INF),
        ([1.0, 2.0], [1.0, NAN], INF),
        ([0.0], [1e-30], INF),
        ([], [], 0),
    ],
)
def test_infinities_that_are_equal_do_not_differ(network: list[float], file: list[float], differs: float) -> None:
    assert agreement.difference(torch.tensor(file), torch.tensor(network)) == pytest.approx(differs, rel=1e-2)
    net, run = given([network], [file])
    if differs > 1e-4:
        with pytest.raises(ExportError, match="the file differs from PyTorch by inf"):
            agreement.check(net, (torch.ones(2),), run)
    else:
        agreement.check(net, (torch.ones(2),), run)


def test_no_output_may_be_nan_in_the_file_alone_and_none_in_the_network() -> None:
    net, run = given([[1.0], [1.0]], [[1.0], [NAN]])  # the maximum of 0 and NaN is 0 in Python
    with pytest.raises(ExportError, match="differs from PyTorch by inf"):
        agreement.check(net, (torch.ones(2),), run)
    net, run = given([[1.0], [NAN]], [[1.0], [NAN]])
    with pytest.raises(ExportError, match="Given returns NaN on noise"):
        agreement.check(net, (torch.ones(2),), run)


def test_half_precision_takes_the_dtype_of_the_network_and_may_round(form: str, tmp_path: Path) -> None:
    net, path = small_resnet().half().eval(), tmp_path / "net"
    FORMATS[form](net, EXAMPLE, path)
    assert {w.dtype for w in STORED[form](path) if w.is_floating_point()} == {torch.float16}
    images = torch.randn(3, 3, 32, 32)
    (found,) = RUN[form](path, images.half())
    exact = net.float()(images)
    assert found.dtype == torch.float16
    assert (found.float() - exact).abs().max() <= 8 * 2**-10 * exact.abs().max()


class TakesFloats(nn.Module):
    """Stored in half precision, for inputs that half precision would round."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2).half()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer((x - 70000).half())


def test_an_input_that_the_network_takes_keeps_its_dtype() -> None:
    for net, dtype in ((TakesFloats(), torch.float32), (nn.Linear(4, 2).half(), torch.float16)):
        copy, (x,) = program.on_cpu(net, torch.zeros(2, 4))
        assert x.dtype == dtype
        assert all(not calls for name, calls in copy.named_buffers())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_dtype_that_onnxruntime_lacks_is_refused_in_a_line_and_pt2_has_it(
    form: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    net, path = small_resnet().to(dtype).eval(), tmp_path / "net"
    if form == "onnx":
        with pytest.raises(ExportError, match=r"^onnxruntime .*: export net.float\(\), or --to pt2$"):
            FORMATS[form](net, EXAMPLE, path)
        assert not list(tmp_path.iterdir())
    else:
        FORMATS[form](net, EXAMPLE, path)
        images = torch.randn(3, 3, 32, 32, dtype=dtype)
        torch.testing.assert_close(RUN[form](path, images)[0], net(images))


def test_every_batch_size_is_compared_and_1_is_among_them() -> None:
    net, seen = nn.Linear(4, 3).eval(), []

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        seen.append(len(inputs[0]))
        return [net(*inputs).detach() + (seen[-1] == 7)]

    with pytest.raises(ExportError, match="on a batch of 7"):
        agreement.check(net, (torch.ones(2, 4),), run)
    assert seen == [1, 2, 7]


def test_a_file_with_a_fixed_batch_size_is_refused() -> None:
    with pytest.raises(ExportError, match=r"returns \[\(2, 3\)\] on a batch of 1, expected \[\(1, 3\)\]"):
        agreement.check(nn.Linear(4, 3), (torch.ones(2, 4),), lambda _: [torch.ones(2, 3)])


class Eigenvalues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x)


def test_an_operation_that_onnx_lacks_is_named_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"ONNX needs {package}: pip install 'prunelab[export]'")
    square = torch.eye(3).expand(2, 3, 3)
    with pytest.raises(ExportError, match=r"^ONNX cannot express aten._linalg_eigh, which Eigenvalues computes: .*$"):
        prunelab.export.onnx(Eigenvalues(), square, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_a_network_whose_hooks_compute_a_weight_is_exported(form: str, tmp_path: Path) -> None:
    net, x = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(4, 3)), nn.ReLU()), torch.randn(2, 4)
    FORMATS[form](net, x, tmp_path / "net")
    torch.testing.assert_close(RUN[form](tmp_path / "net", x), [net(x)])


def test_a_wrapper_of_torch_compile_is_exported_as_what_is_in_it(form: str, tmp_path: Path) -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(2, 4)
    FORMATS[form](torch.compile(net), x, tmp_path / "net")  # type: ignore[arg-type]
    torch.testing.assert_close(RUN[form](tmp_path / "net", x), [net(x)])


class Sum(nn.Module):
    """Of any number of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return sum(map(self.other, others), start=self.first(x))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_inputs_is_exported(count: int, form: str, tmp_path: Path) -> None:
    net, inputs = Sum(), tuple(torch.randn(2, 4) for _ in range(count))
    FORMATS[form](net, inputs, tmp_path / "net")
    torch.testing.assert_close(RUN[form](tmp_path / "net", *inputs), [net(*inputs)])


def test_inputs_that_forward_does_not_take_are_refused(form: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot trace Linear .*\(2, 4\), \(2, 4\): "):
        FORMATS[form](nn.Linear(4, 3), (torch.ones(1, 4), torch.ones(1, 4)), tmp_path / "net")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_network_without_a_signature_is_refused_in_the_words_of_torch(form: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="ScriptModule"):
        FORMATS[form](torch.jit.script(nn.ReLU()), torch.ones(1, 4), tmp_path / "net")


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def test_code_that_cannot_be_traced_is_named_and_nothing_else_is_printed(
    form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = r"\(at .*test_export.py:\d+, `return x \* 2 if x.sum\(\) > 0 else x`\)"
    with pytest.raises(ExportError, match=rf"^torch.export cannot trace Branching .*the value of a tensor.* {place}$"):
        FORMATS[form](Branching(), torch.ones(2, 4), tmp_path / "net")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("example", [(), torch.ones(()), torch.ones(0, 4), (torch.ones(2, 4), torch.ones(3, 4))])
def test_inputs_without_a_common_batch_are_refused(form: str, example: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="of the same n >= 1"):
        FORMATS[form](nn.Linear(4, 3), example, tmp_path / "net")


def test_without_onnx_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"pip install 'prunelab\[export\]'"):
        prunelab.export.onnx(nn.Linear(4, 3), torch.ones(2, 4), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []
