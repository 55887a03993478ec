"""Compact files: round trips to the bit, checksums, and refusal of damaged or foreign files."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors import safe_open
from tampered_file import KEPT, SHA, Change, Parts, deflated, inflated, opened, rewritten, write
from torch import Tensor, nn

import prunelab
from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.compact import codec, description
from prunelab.compact.file import Compact, origin_of, save
from prunelab.job.pretrained import load_weights
from prunelab.models.registry import build

NAME = "cifar_resnet.resnet8"
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
PLAN = Plan(
    {("layer1.0.conv1.weight", 0): torch.tensor([0, 3, 5, 9])}
    | {
        (f"layer1.0.{name}", axis): torch.tensor([0, 3, 5, 9])
        for name, axis in [(f"bn1.{part}", 0) for part in ("weight", "bias", "running_mean", "running_var")]
        + [("conv2.weight", 1)]
    }
)


def masked(net: nn.Module, rate: float = 0.9, sign: bool = False) -> nn.Module:
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() == 1:
                nn.init.normal_(p)
            else:
                p.mul_(torch.rand(p.shape, generator=stream) >= rate)
                if not sign:
                    p.add_(0.0)
    return net.eval()


def pruned() -> nn.Module:
    torch.manual_seed(0)
    net = build(NAME, {})
    shrink(net, PLAN)
    return masked(net)


@pytest.fixture
def small() -> nn.Module:
    return pruned()


@pytest.fixture
def file(tmp_path: Path, small: nn.Module) -> Path:
    save(tmp_path / "net.safetensors", small, PLAN, NAME, {})
    return tmp_path / "net.safetensors"


def assert_same(loaded: nn.Module, net: nn.Module) -> None:
    assert str(loaded) == str(net)
    assert not loaded.training
    expected, state = net.state_dict(), loaded.state_dict()
    assert list(state) == list(expected)
    for name, tensor in state.items():
        assert (tensor.dtype, tensor.stride()) == (expected[name].dtype, expected[name].stride()), name
        assert tensor.flatten().view(torch.uint8).equal(expected[name].flatten().view(torch.uint8)), name


# --- the same net


@pytest.mark.parametrize("sign", [False, True])
def test_a_network_round_trips_to_the_bit_and_computes_the_same(tmp_path: Path, sign: bool) -> None:
    for name in (NAME, "keras_cnn.KerasCNN", "vgg.vgg11"):
        args = {"width": 0.25} if "vgg" in name else {}
        net = masked(build(name, args), 0.95, sign)
        size = save(tmp_path / "net", net, Plan(), name, args)
        loaded = prunelab.load(tmp_path / "net")
        assert_same(loaded, net)
        assert torch.equal(loaded(IMAGES), net(IMAGES))
        assert size == (tmp_path / "net").stat().st_size
        assert size < sum(t.nbytes for t in net.state_dict().values()) / (5 if sign else 10)


def test_a_shrunk_network_round_trips_and_starts_another_job(file: Path, small: nn.Module) -> None:
    assert_same(prunelab.load(file), small)
    for into in (build(NAME, {}), build(NAME, {}).to(memory_format=torch.channels_last)):
        assert prunelab.load(file, into) is into
        assert into.state_dict().keys() == small.state_dict().keys()
        assert torch.equal(into(IMAGES), small(IMAGES))
    net = build(NAME, {})
    plan = load_weights(net, file)
    assert plan.to_json() == PLAN.to_json()
    assert_same(net.eval(), small)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_and_memory_formats_round_trip(tmp_path: Path, dtype: torch.dtype, small: nn.Module) -> None:
    small.to(dtype).to(memory_format=torch.channels_last)
    save(tmp_path / "net", small, PLAN, NAME, {})
    assert_same(prunelab.load(tmp_path / "net"), small)


def test_a_foreign_network_is_loaded_into_a_new_one(tmp_path: Path) -> None:
    net = masked(nn.Sequential(nn.Linear(300, 300)))
    with torch.no_grad():
        net[0].weight[0, :4] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    save(tmp_path / "net", net, Plan(), None, {"weights": object()})
    assert_same(prunelab.load(tmp_path / "net", nn.Sequential(nn.Linear(300, 300))), net)
    with pytest.raises(ValueError, match="not one of prunelab's: give .*into=net"):
        prunelab.load(tmp_path / "net")
    size = save(tmp_path / "short", net)
    assert (tmp_path / "short").read_bytes() == (tmp_path / "net").read_bytes()
    assert size == (tmp_path / "short").stat().st_size


@pytest.mark.parametrize("values", ["float16", "int8"])
def test_rounded_weights_are_close_and_all_else_is_exact(tmp_path: Path, values: str, small: nn.Module) -> None:
    exact = save(tmp_path / "exact", small, PLAN, NAME, {})
    size = save(tmp_path / "net", small, PLAN, NAME, {}, values)
    assert size < 0.75 * exact
    loaded = prunelab.load(tmp_path / "net").state_dict()
    for name, original in small.state_dict().items():
        assert loaded[name].dtype == original.dtype
        if original.dim() < 2:
            assert torch.equal(loaded[name], original), name
        else:
            assert torch.equal(loaded[name] == 0, original == 0), name
            assert (loaded[name] - original).abs().max() <= original.abs().max() / 254, name


@pytest.mark.parametrize("values", ["float16", "int8"])
def test_buffers_and_scales_of_any_shape_are_not_rounded(tmp_path: Path, values: str) -> None:
    def network() -> nn.Module:
        net = nn.Linear(6, 4)
        net.register_parameter("scale", nn.Parameter(torch.full((4, 1, 1), 0.1)))
        net.register_parameter("shift", nn.Parameter(torch.full((1, 4, 1), -0.1)))
        net.register_buffer("table", torch.full((4, 5), 1 / 3))
        return net

    net = network()
    save(tmp_path / "net", net, Plan(), None, {}, values)
    again = prunelab.load(tmp_path / "net", into=network()).state_dict()
    assert [name for name, t in net.state_dict().items() if not torch.equal(again[name], t)] == ["weight"]


def test_a_loaded_network_is_independent_of_the_file(file: Path, small: nn.Module) -> None:
    loaded = prunelab.load(file)
    file.write_bytes(b"")
    assert_same(loaded, small)


def test_equal_nets_make_equal_files(file: Path) -> None:
    save(file.with_name("again"), pruned(), PLAN, NAME, {})
    assert file.with_name("again").read_bytes() == file.read_bytes()


# --- one tensor at a time


def test_a_tensor_is_decoded_on_access(file: Path, small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def watched(record: Any, data: Any) -> Tensor:
        decoded.append(1)
        return decode(record, data)

    decode = codec.decode
    monkeypatch.setattr(codec, "decode", watched)
    expected = small.state_dict()
    with Compact(file) as tensors:
        assert list(tensors) == list(expected)
        assert len(tensors) == len(expected)
        assert "fc.weight" in tensors
        assert "fc.more" not in tensors
        assert not decoded
        for name in ("layer3.0.conv2.weight", "fc.bias"):
            assert torch.equal(tensors[name], expected[name])
        assert len(decoded) == 2
        with pytest.raises(KeyError):
            tensors["fc.more"]


def flip(parts: Parts, name: str) -> None:
    """One bit."""
    parts[name] = parts[name][:-9] + bytes([parts[name][-9] ^ 4]) + parts[name][-8:]


def test_damage_to_one_tensor_is_detected_on_access(file: Path, small: nn.Module) -> None:
    rewritten(file, lambda about, parts: flip(parts, "layer3.0.conv2.weight"), signed=False)
    with Compact(file) as tensors:
        assert torch.equal(tensors["layer3.0.conv1.weight"], small.state_dict()["layer3.0.conv1.weight"])
        with pytest.raises(
            ValueError, match=r"layer3.0.conv2.weight cannot be decoded: it does not match its sha256.*copy it again"
        ) as error:
            tensors["layer3.0.conv2.weight"]
    assert str(error.value).startswith(f"{file}: ")


def test_errors_on_opening_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(ValueError, match="not a complete safetensors file") as error:
        Compact(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_folder_is_refused_with_the_file_to_give_instead(tmp_path: Path) -> None:
    for take in (prunelab.load, origin_of, Compact):
        with pytest.raises(ValueError, match=r"a folder: give the file, .*model\.safetensors") as error:
            take(tmp_path)
        assert str(error.value).startswith(f"{tmp_path}: ")


# --- damage


def test_a_truncated_file_is_refused(file: Path) -> None:
    whole, draw = file.read_bytes(), random.Random(0)
    for n in [*range(9), *draw.sample(range(len(whole)), 200), len(whole) - 1]:
        file.write_bytes(whole[:n])
        for opening in (prunelab.load, Compact):
            with pytest.raises(ValueError, match=r"not a complete safetensors file: .*copy the file again") as error:
                opening(file)
            assert str(error.value).startswith(f"{file}: ")
    file.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        prunelab.load(file)


def test_any_flipped_bit_is_detected(file: Path) -> None:
    whole, draw = bytearray(file.read_bytes()), random.Random(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    for at in [*range(8), *draw.sample(range(8, header), 150), *draw.sample(range(header, len(whole)), 80)]:
        bit = 1 << draw.randrange(8)
        whole[at] ^= bit
        file.write_bytes(whole)
        with pytest.raises(ValueError, match=str(file)):
            prunelab.load(file)
        whole[at] ^= bit


def claiming(about: dict[str, Any], parts: Parts, name: str, shape: list[int]) -> None:
    """`name` becomes zeros of that shape, which take a byte."""
    about["tensors"][name] = ["float32", shape, 0, "float32", False, 0, ""]
    parts[name] = deflated(b"")


def bigger(about: dict[str, Any], parts: Parts) -> None:
    claiming(about, parts, "fc.weight", [1 << 31, 1 << 31])


def more_classes(about: dict[str, Any], parts: Parts) -> None:
    about["args"] = {"num_classes": 4_000_000}
    claiming(about, parts, "fc.weight", [4_000_000, 64])
    claiming(about, parts, "fc.bias", [20_000_000])


def more_tensors(about: dict[str, Any], parts: Parts) -> None:
    for i in range(50):
        claiming(about, parts, f"x{i}", [1 << 22])


CONV = "layer3.0.conv2.weight"


def record(at: int, value: Any) -> Change:
    return lambda about, parts: about["tensors"][CONV].__setitem__(at, value)


def bomb(about: dict[str, Any], parts: Parts) -> None:
    """Its values take 64 MB, not 147 kB."""
    parts[CONV] = deflated(bytes(1 << 26))


def nothing(about: dict[str, Any], parts: Parts) -> None:
    about["tensors"].clear()
    parts.clear()


RESIGNED: dict[str, tuple[Change, str]] = {
    "no tensors": (lambda a, p: a.pop("tensors"), "wrong or missing tensors=None"),
    "tensors list": (lambda a, p: a.update(tensors=[]), r"wrong or missing tensors=\[\]"),
    "record text": (
        lambda a, p: a["tensors"].update({CONV: "{}"}),
        f"{CONV} cannot be decoded: record='{{}}': expected",
    ),
    "no record": (lambda a, p: a["tensors"].pop(CONV), r"its tensors do not take [\d,]+ bytes: save it again"),
    "tensor missing": (lambda a, p: [a["tensors"].pop(CONV), p.pop(CONV)], "conv2.weight is missing"),
    "tensor of another net": (lambda a, p: claiming(a, p, "fc.more", [2]), "fc.more is unknown"),
    "unprintable": (lambda a, p: claiming(a, p, "fc\x1b[2J", [2]), r"a tensor 'fc\\x1b\[2J': rename it"),
    "nothing": (nothing, r"conv1.weight is missing; .* and \d+ more"),
    "bytes missing": (lambda a, p: p.pop("bn1.weight"), "bn1.weight cannot be decoded: bytes=0: expected"),
    "something more": (lambda a, p: p.update(more=b"x"), r"its tensors do not take [\d,]+ bytes"),
    "shape": (record(1, [36864]), r"is \(36864,\), expected \(64, 64, 3, 3\)"),
    "shape of less": (record(1, [64, 64]), r"is \(64, 64\), expected \(64, 64, 3, 3\)"),
    "number of more": (record(KEPT, 1 << 40), f"{CONV} cannot be decoded: kept=1099511627776: expected at most 36,864"),
    "number of less": (record(KEPT, 5), f"{CONV} cannot be decoded: it does not inflate to at most"),
    "enormous": (bigger, r"fc.weight cannot be decoded: shape=.* expected at most 268,435,456 values"),
    "bomb": (bomb, f"{CONV} cannot be decoded: it does not inflate to at most"),
    "dtype": (record(0, "os.system"), "dtype='os.system': expected a torch dtype"),
    "net": (lambda a, p: a.update(net="os.system"), "net='os.system': expected one of"),
    "plan": (lambda a, p: a.update(plan={}), "not a plan of what is kept"),
}


# Files of 100 kB that claim more than memory holds, and what is said of each.
CLAIMS: dict[str, tuple[Change, str]] = {
    "zeros": (lambda a, p: claiming(a, p, "conv1.weight", [1 << 27]), r"conv1.weight is \(134217728,\), expected"),
    "more zeros": (
        lambda a, p: claiming(a, p, "conv1.weight", [10**10]),
        "conv1.weight cannot be decoded: shape=.*most",
    ),
    "no zeros": (lambda a, p: claiming(a, p, "conv1.weight", [1 << 62, 4, 0]), "conv1.weight is .*expected"),
    "ones": (
        lambda a, p: a["tensors"].update({CONV: ["bool", [1 << 33], 1 << 33, "float32", False, 0, ""]}),
        f"{CONV} is .*expected|its tensors have 8,589,.* values, expected at most",
    ),
    "many tensors": (more_tensors, "x0 is unknown"),
    "classes": (lambda a, p: a["args"].update(num_classes=10**9), "fc.weight is .*expected"),
    "classes and their weights": (more_classes, "its tensors have 276,.* values, expected at most"),
    "width": (lambda a, p: a.update(net="vgg.vgg19", args={"width": 10**9}), "vgg.vgg19 cannot be built with width"),
    "plan": (
        lambda a, p: a["plan"]["keep"].update({"ff" * (1 << 22): []}),
        "its description cannot be read: it does not inflate to at most 4,194,304 bytes",
    ),
}
OF_ARGUMENTS = ("classes", "classes and their weights", "width")  # a network that is given has its own


@pytest.mark.parametrize("what", CLAIMS)
def test_a_small_file_that_claims_a_large_network_is_refused_before_anything_is_decoded(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = CLAIMS[what]
    rewritten(file, change)
    monkeypatch.setattr(codec, "decode", lambda record, data: pytest.fail("decoded"))
    for into in (None, *([] if what in OF_ARGUMENTS else [build(NAME, {})])):
        with pytest.raises(ValueError, match=message):
            prunelab.load(file, into)


def test_a_single_tensor_that_claims_too_much_is_refused(file: Path) -> None:
    rewritten(file, bigger)
    with pytest.raises(ValueError, match=r"fc.weight cannot be decoded: .* at most 268,435"):
        Compact(file)


def test_what_is_too_large_to_be_claimed_is_written_whole_and_without_a_name(
    tmp_path: Path, small: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MOST", 1000)
    monkeypatch.setattr(description, "MOST", 1000)
    save(tmp_path / "net", small, PLAN, NAME, {})
    about, parts = opened(tmp_path / "net")
    assert about["net"] is None
    assert about["tensors"][CONV][KEPT] == 64 * 64 * 9
    assert len(parts[CONV]) > 10_000
    assert_same(prunelab.load(tmp_path / "net", build(NAME, {})), small)
    assert save(tmp_path / "int8", small, PLAN, NAME, {}, "int8")
    assert_zeros_stay(tmp_path / "int8", small)


def assert_zeros_stay(path: Path, net: nn.Module) -> None:
    loaded = prunelab.load(path, build(NAME, {})).state_dict()
    assert all(torch.equal(loaded[name] == 0, t == 0) for name, t in net.state_dict().items())


@pytest.mark.parametrize("what", RESIGNED)
def test_a_tampered_file_is_refused_with_its_name_and_the_value(what: str, file: Path) -> None:
    change, message = RESIGNED[what]
    rewritten(file, change)
    with pytest.raises(ValueError, match=message) as error:
        prunelab.load(file)
    assert str(error.value).startswith(f"{file}: ")
    assert len(str(error.value)) < 700


@pytest.mark.parametrize("name", ["conv1.weight", "bn1.bias", CONV, "fc.bias"])
def test_a_tensor_changed_after_writing_is_refused(name: str, file: Path) -> None:
    for change in (
        lambda about, parts: flip(parts, name),
        lambda about, parts: about["tensors"][name].__setitem__(SHA, "0" * 16),
    ):
        whole = file.read_bytes()
        rewritten(file, change, signed=False)
        with pytest.raises(
            ValueError, match=f"{name} cannot be decoded: it does not match its sha256.*copy it again"
        ) as error:
            prunelab.load(file)
        assert str(error.value).startswith(f"{file}: ")
        file.write_bytes(whole)


def test_a_description_changed_after_writing_is_refused(file: Path) -> None:
    with safe_open(file, "np") as whole:
        header = json.loads(whole.metadata()["prunelab"])
        text, data = (whole.get_tensor(name).tobytes() for name in ("description", "tensors"))
    other = deflated(inflated(text).replace(b'"channels_last":false', b'"channels_last":true'))
    write(file, other, data, {"sha256": header["sha256"]})
    with pytest.raises(ValueError, match="its description does not match its sha256.*copy it again"):
        prunelab.load(file)
    for name in ("description", "tensors"):
        file.write_bytes(
            safetensors.numpy.save({name: np.frombuffer(text, np.uint8)}, {"prunelab": json.dumps(header)})
        )
        with pytest.raises(ValueError, match="is missing or unknown in it: save it again"):
            prunelab.load(file)


@pytest.mark.parametrize("version", [0, 1, 2, 4, True, "3", None, [3]])
def test_other_formats_are_refused_with_the_remedy(version: Any, file: Path) -> None:
    write(file, deflated(b"{}"), b"", {"format": version})
    for opening in (prunelab.load, Compact, origin_of):
        with pytest.raises(ValueError) as error:
            opening(file)
        assert str(error.value).startswith(f"{file}: format={version!r}: expected 3; ")
        assert str(error.value).endswith("run the job again with rerun=true")


def test_nothing_is_unpickled_or_evaluated(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a file's code could run")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    for name in ("torch.load", "builtins.eval", "builtins.exec"):
        monkeypatch.setattr(name, never)
    prunelab.load(file)


# --- what is not written


def test_weights_out_of_range_are_refused_and_nothing_is_written(tmp_path: Path, small: nn.Module) -> None:
    path = tmp_path / "net"
    with pytest.raises(ValueError, match=r"is not written: .*values='int4': expected one of"):
        save(path, small, PLAN, NAME, {}, "int4")
    with torch.no_grad():
        small.fc.weight[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"is not written: fc.weight: 1 weights are beyond float16"):
        save(path, small, PLAN, NAME, {}, "float16")
    with torch.no_grad():
        small.fc.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"is not written: fc.weight: 1 weights are NaN or infinite"):
        save(path, small, PLAN, NAME, {}, "int8")
    with pytest.raises(ValueError, match=r"is not written: .*name, args and plan give|is not written: it does not fit"):
        save(path, small, Plan(), NAME, {})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(file: Path, small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="no space left"):
        save(file, small, PLAN, NAME, {}, "int8")
    assert_same(prunelab.load(file), small)
    assert list(file.parent.iterdir()) == [file]
