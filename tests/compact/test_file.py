"""Compact files: round trips to the bit, checksums, and refusal of damaged or foreign files."""

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tampered_file import digest, opened, rewritten
from torch import Tensor, nn

import prunelab
from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.compact import codec, description
from prunelab.compact.file import Compact, save
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
        assert size.bytes < size.dense / (5 if sign else 8)
        assert bool(size.signs) == sign


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


@pytest.mark.parametrize("values", ["float16", "int8"])
def test_rounded_weights_are_close_and_all_else_is_exact(tmp_path: Path, values: str, small: nn.Module) -> None:
    exact = save(tmp_path / "exact", small, PLAN, NAME, {})
    size = save(tmp_path / "net", small, PLAN, NAME, {}, values)
    assert size.bytes < 0.75 * exact.bytes
    loaded = prunelab.load(tmp_path / "net").state_dict()
    for name, original in small.state_dict().items():
        assert loaded[name].dtype == original.dtype
        if original.dim() < 2:
            assert torch.equal(loaded[name], original), name
        else:
            assert torch.equal(loaded[name] == 0, original == 0), name
            assert (loaded[name] - original).abs().max() <= original.abs().max() / 254, name


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

    def watched(record: Any, parts: Any) -> Tensor:
        decoded.append(1)
        return decode(record, parts)

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


def test_damage_to_one_tensor_is_detected_on_access(file: Path, small: nn.Module) -> None:
    rewritten(file, lambda about, parts: parts["layer3.0.conv2.weight/values"][7].neg_(), signed=False)
    with Compact(file) as tensors:
        assert torch.equal(tensors["layer3.0.conv1.weight"], small.state_dict()["layer3.0.conv1.weight"])
        with pytest.raises(
            ValueError, match=r"layer3.0.conv2.weight does not match its sha256.*copy it again"
        ) as error:
            tensors["layer3.0.conv2.weight"]
    assert str(error.value).startswith(f"{file}: ")


def test_errors_on_opening_name_the_file(tmp_path: Path, file: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ValueError, match="not a complete safetensors file") as error:
            Compact(path)
        assert str(error.value).startswith(f"{path}: ")


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


def claiming(about: dict[str, Any], parts: dict[str, Tensor], name: str, shape: list[int]) -> None:
    """`name` becomes zeros of that shape, which take no bytes."""
    about["tensors"][name] = {"dtype": "float32", "shape": shape, "kept": [0, 0]}
    for key in [key for key in parts if key.partition("/")[0] == name]:
        del parts[key]


def bigger(about: dict[str, Any], parts: dict[str, Tensor]) -> None:
    claiming(about, parts, "fc.weight", [1 << 31, 1 << 31])


def more_classes(about: dict[str, Any], parts: dict[str, Tensor]) -> None:
    about["args"] = {"num_classes": 4_000_000}
    claiming(about, parts, "fc.weight", [4_000_000, 64])
    claiming(about, parts, "fc.bias", [20_000_000])


def more_tensors(about: dict[str, Any], parts: dict[str, Tensor]) -> None:
    for i in range(50):
        claiming(about, parts, f"x{i}", [1 << 22])


CONV = "layer3.0.conv2.weight"
RESIGNED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = {
    "newer": (lambda a, p: a.update(format=3), "format=3: expected 2; another version of prunelab may read it"),
    "older": (lambda a, p: a.update(format=1), "format=1: expected 2"),
    "no tensors": (lambda a, p: a.pop("tensors"), "wrong or missing tensors=None"),
    "tensors list": (lambda a, p: a.update(tensors=[]), r"wrong or missing tensors=\[\]"),
    "record text": (lambda a, p: a["tensors"].update({CONV: "{}"}), "wrong or missing tensors="),
    "no description": (lambda a, p: a["tensors"].pop(CONV), f"it holds '{CONV}/kept', which is not in its description"),
    "tensor missing": (
        lambda a, p: [a["tensors"].pop(CONV), p.pop(f"{CONV}/kept"), p.pop(f"{CONV}/values")],
        "conv2.weight is missing",
    ),
    "tensor of another net": (
        lambda a, p: (a["tensors"].update({"fc.more": {}}), p.update({"fc.more": torch.ones(2)})),
        "fc.more is unknown",
    ),
    "nothing": (lambda a, p: (a["tensors"].clear(), p.clear()), r"conv1.weight is missing; .* and \d+ more"),
    "whole missing": (lambda a, p: p.pop("bn1.weight"), "bn1.weight cannot be decoded: File does not contain tensor"),
    "values missing": (lambda a, p: p.pop(f"{CONV}/values"), f"{CONV} cannot be decoded: it has 0 values, expected"),
    "positions missing": (lambda a, p: p.pop(f"{CONV}/kept"), f"{CONV} cannot be decoded: its positions"),
    "something more": (lambda a, p: p.update(more=torch.zeros(1)), "it holds 'more', which is not in its description"),
    "shape": (lambda a, p: a["tensors"][CONV].update(shape=[36864]), r"is \(36864,\), expected \(64, 64, 3, 3\)"),
    "shape of less": (lambda a, p: a["tensors"][CONV].update(shape=[64]), r"is \(64,\), expected \(64, 64, 3, 3\)"),
    "number of more": (lambda a, p: a["tensors"][CONV].update(kept=[0, 1 << 40]), "cannot be decoded: positions"),
    "enormous": (bigger, r"fc.weight cannot be decoded: shape=.* expected at most 268,435,456 values"),
    "dtype": (lambda a, p: a["tensors"][CONV].update(dtype="os.system"), "dtype='os.system': expected a torch dtype"),
    "net": (lambda a, p: a.update(net="os.system"), "net='os.system': expected one of"),
    "plan": (lambda a, p: a.update(plan={}), "not a plan of what is kept"),
}


# Files of 100 kB that claim more than memory holds, and what is said of each.
CLAIMS: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = {
    "zeros": (lambda a, p: claiming(a, p, "conv1.weight", [1 << 27]), r"conv1.weight is \(134217728,\), expected"),
    "more zeros": (
        lambda a, p: claiming(a, p, "conv1.weight", [10**10]),
        "conv1.weight cannot be decoded: shape=.*most",
    ),
    "no zeros": (lambda a, p: claiming(a, p, "conv1.weight", [1 << 62, 4, 0]), "conv1.weight is .*expected"),
    "ones": (
        lambda a, p: a["tensors"][CONV].update(dtype="bool", shape=[1 << 33]),
        f"{CONV} cannot be decoded: shape=",
    ),
    "many tensors": (more_tensors, "x0 is unknown"),
    "classes": (lambda a, p: a["args"].update(num_classes=10**9), "fc.weight is .*expected"),
    "classes and their weights": (more_classes, "its tensors have 276,.* values, expected at most"),
    "width": (lambda a, p: a.update(net="vgg.vgg19", args={"width": 10**9}), "vgg.vgg19 cannot be built with width"),
    "plan": (lambda a, p: a["plan"]["keep"].update({"ff" * (1 << 22): []}), "its plan cannot be read: 8,388,.* digits"),
}
OF_ARGUMENTS = ("classes", "classes and their weights", "width")  # a network that is given has its own


@pytest.mark.parametrize("what", CLAIMS)
def test_a_small_file_that_claims_a_large_network_is_refused_before_anything_is_decoded(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = CLAIMS[what]
    rewritten(file, change)
    monkeypatch.setattr(codec, "decode", lambda record, parts: pytest.fail("decoded"))
    for into in (None, *([] if what in OF_ARGUMENTS else [build(NAME, {})])):
        with pytest.raises(ValueError, match=message):
            prunelab.load(file, into)


def test_a_single_tensor_that_claims_too_much_is_refused(file: Path) -> None:
    rewritten(file, bigger)
    with Compact(file) as tensors, pytest.raises(ValueError, match=r"fc.weight cannot be decoded: .* at most 268,435"):
        _ = tensors["fc.weight"]


def test_what_is_too_large_to_be_claimed_is_written_whole_and_without_a_name(
    tmp_path: Path, small: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MOST", 1000)
    monkeypatch.setattr(description, "MOST", 1000)
    save(tmp_path / "net", small, PLAN, NAME, {})
    about, parts = opened(tmp_path / "net")
    assert about["net"] is None
    assert (parts[CONV].shape, about["tensors"][CONV].keys()) == ((64, 64, 3, 3), {"sha256"})
    assert_same(prunelab.load(tmp_path / "net", build(NAME, {})), small)


@pytest.mark.parametrize("what", RESIGNED)
def test_a_tampered_file_is_refused_with_its_name_and_the_value(what: str, file: Path) -> None:
    change, message = RESIGNED[what]
    rewritten(file, change)
    with pytest.raises(ValueError, match=message) as error:
        prunelab.load(file)
    assert str(error.value).startswith(f"{file}: ")
    assert len(str(error.value)) < 700


TAMPERED: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], Any]] = {
    "a value": lambda a, p: p[f"{CONV}/values"][:1].mul_(2),
    "a position": lambda a, p: p[f"{CONV}/kept"][-1:].bitwise_xor_(16),
    "a bias": lambda a, p: p["fc.bias"][:1].add_(1),
    "a shape": lambda a, p: a["tensors"][CONV].update(shape=[64, 64, 9, 1]),
    "a number": lambda a, p: a["tensors"][CONV].update(kept=[0, 0]),
    "a checksum": lambda a, p: a["tensors"][CONV].update(sha256="0" * 16),
    "the memory format": lambda a, p: a.update(channels_last=True),
    "a version": lambda a, p: a["versions"].update(torch="1.0"),
    "something more": lambda a, p: a.update(more=1),
    "an argument": lambda a, p: a["args"].update(num_classes=11),
    "the digest": lambda a, p: a.update(sha256=a["sha256"].upper()),
    "two tensors": lambda a, p: p.update({"bn1.weight": p["bn1.bias"], "bn1.bias": p["bn1.weight"]}),
    "a part": lambda a, p: p.pop(f"{CONV}/values"),
    "one more part": lambda a, p: p.update({f"{CONV}/minus": torch.zeros(9, dtype=torch.uint8)}),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_file_changed_after_writing_is_refused(what: str, file: Path) -> None:
    rewritten(file, TAMPERED[what], signed=False)
    with pytest.raises(ValueError, match=r"does not match its sha256.*copy it again") as error:
        prunelab.load(file)
    assert str(error.value).startswith(f"{file}: ")


def test_the_checksum_of_each_tensor_is_verified(file: Path) -> None:
    about, _ = opened(file)
    for name in about["tensors"]:
        whole = file.read_bytes()

        def wrong(about: dict[str, Any], parts: dict[str, Tensor], name: str = name) -> None:
            about["tensors"][name]["sha256"] = "0" * 16
            about["sha256"] = digest(about, {})

        rewritten(file, wrong, signed=False)
        with pytest.raises(ValueError, match=f"the content of {name} does not match its sha256"):
            prunelab.load(file)
        file.write_bytes(whole)


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


def test_a_name_that_a_part_already_has_is_refused(tmp_path: Path) -> None:
    net = nn.Module()
    net.register_buffer("a", torch.eye(100))
    net.add_module("a/values", nn.Identity())
    net.register_buffer("a/kept", torch.ones(3))
    with pytest.raises(ValueError, match="has the same name as a part of another: rename it"):
        save(tmp_path / "net", net, Plan(), None, {})
