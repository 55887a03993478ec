"""Descriptions in compact files: round trips of pruned networks, and refusal of tampered descriptions."""

import copy
import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from tampered_file import Change, Parts, deflated, opened, rewritten, write
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import prunelab
from prunelab.channels.plan import Plan
from prunelab.channels.surgery import shrink
from prunelab.channels.units import Channels
from prunelab.compact.file import origin_of, save
from prunelab.core.allocation import Uniform
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm
from prunelab.models.cifar_resnet import resnet8, resnet20
from prunelab.models.registry import build

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NAME, ARGS = "cifar_resnet.resnet8", {"num_classes": 10, "shortcut": "A"}


def units(net: nn.Module, example: Tensor = IMAGES) -> Channels:
    return Channels().bind(net, prunable_weights(net), example)


def random_plan(channels: Channels, stream: torch.Generator, rate: float = 0.5) -> Plan:
    """Keeps a random part of each group, at least one unit."""
    keep = {group: torch.rand(len(n), generator=stream) >= rate for group, n in channels.numbers.items()}
    for kept in keep.values():
        kept[int(torch.randint(len(kept), (), generator=stream))] = True
    return channels.plan(keep)


def lived_in(net: nn.Module) -> nn.Module:
    """With batch norms that are not the ones of a new net."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net


def assert_same(loaded: nn.Module, net: nn.Module, images: Tensor | None = IMAGES) -> None:
    """Modules, names, dtypes, memory formats and outputs, to the bit; `loaded` is in eval mode, on the CPU."""
    assert not any(module.training for module in loaded.modules())
    assert str(loaded) == str(net)
    expected, state = net.state_dict(), loaded.state_dict()
    assert list(state) == list(expected)
    for name, tensor in state.items():
        assert (tensor.dtype, tensor.device.type) == (expected[name].dtype, "cpu"), name
        assert tensor.stride() == expected[name].stride(), name
        assert torch.equal(tensor, expected[name]), name
    if images is None:
        return
    dtype = next(net.parameters()).dtype
    with torch.no_grad():
        assert torch.equal(loaded(images.to(dtype)), net.eval()(images.to(dtype)))


@pytest.fixture(scope="module")
def both() -> dict[str, Channels]:
    return {shortcut: units(build(NAME, {"shortcut": shortcut})) for shortcut in ("A", "B")}


@pytest.fixture(scope="module")
def plan(both: dict[str, Channels]) -> Plan:
    return random_plan(both["A"], torch.Generator().manual_seed(0))


@pytest.fixture
def small(plan: Plan) -> nn.Module:
    net = lived_in(resnet8())
    shrink(net, plan)
    return net


@pytest.fixture
def file(tmp_path: Path, small: nn.Module, plan: Plan) -> Path:
    path = tmp_path / "model.safetensors"
    save(path, small, plan, NAME, ARGS)
    return path


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("cifar_resnet.resnet20", {"shortcut": "A"}),
        ("cifar_resnet.resnet20", {"num_classes": 3, "shortcut": "B"}),
        ("densenet.densenet40", {}),
        ("mobilenet_v2.MobileNetV2", {"dropout": 0.1}),
        ("keras_cnn.KerasCNN", {"num_classes": 7, "conv_dropout": 0.25}),
    ],
)
def test_a_registered_network_round_trips_to_the_bit(name: str, args: dict[str, Any], tmp_path: Path) -> None:
    net = lived_in(build(name, args))
    plan = random_plan(units(net), torch.Generator().manual_seed(1))
    shrink(net, plan)
    save(tmp_path / "model.safetensors", net, plan, name, args)
    before = torch.get_rng_state()
    assert_same(prunelab.load(tmp_path / "model.safetensors"), net)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_foreign_network_round_trips_to_the_bit_into_a_new_one(tmp_path: Path) -> None:
    net, images = lived_in(torchvision.models.resnet50()), torch.cat([IMAGES, IMAGES], 3)
    plan = random_plan(units(net, images), torch.Generator().manual_seed(2))
    shrink(net, plan)
    save(tmp_path / "net", net, plan, None, {"weights": object()})
    new = torchvision.models.resnet50()
    weight = new.conv1.weight
    loaded = prunelab.load(tmp_path / "net", into=new)
    assert loaded is new
    assert loaded.conv1.weight is weight
    assert_same(loaded, net, images)
    with pytest.raises(ValueError, match=r"not one of prunelab's: give .*into=net"):
        prunelab.load(tmp_path / "net")


@pytest.mark.parametrize("seed", range(12))
def test_any_plan_dtype_and_memory_format_round_trip(seed: int, both: dict[str, Channels], tmp_path: Path) -> None:
    draw, stream = random.Random(seed), torch.Generator().manual_seed(seed)
    args = {"shortcut": draw.choice(["A", "B"])}
    plan = random_plan(both[args["shortcut"]], stream, draw.choice([0, 0.1, 0.5, 0.9, 1]))
    blocks = {f"layer{i}.0": draw.choice(["Identity", "ReLU"]) for i in (1, 2, 3) if draw.random() < 0.3}
    plan = Plan(plan.keep, plan.pads, blocks)
    net = lived_in(build(NAME, args))
    shrink(net, plan)
    net.to(draw.choice([torch.float32, torch.bfloat16, torch.float16, torch.float64]))
    if draw.random() < 0.5:
        net.to(memory_format=torch.channels_last)
    save(tmp_path / "a", net, plan, NAME, args)
    for into in (None, build(NAME, args), build(NAME, args).to(memory_format=torch.channels_last)):
        loaded = prunelab.load(tmp_path / "a", into)
        assert_same(loaded, net, None)  # with random blocks removed the channels may not match, so nothing is run
        save(tmp_path / "b", loaded, plan, NAME, args)
        assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_removed_blocks_and_narrower_padding_round_trip(tmp_path: Path) -> None:
    net = lived_in(resnet20())
    plan = random_plan(units(net), torch.Generator().manual_seed(3))
    assert plan.pads
    plan = Plan(plan.keep, plan.pads, {"layer1.1": "ReLU", "layer3.2": "Identity"})
    shrink(net, plan)
    save(tmp_path / "net", net, plan, "cifar_resnet.resnet20", {})
    loaded = prunelab.load(tmp_path / "net")
    assert_same(loaded, net)
    assert isinstance(loaded.get_submodule("layer1.1"), nn.ReLU)
    assert isinstance(loaded.get_submodule("layer3.2"), nn.Identity)


def test_parameters_that_are_not_finite_and_requires_grad_are_kept(
    small: nn.Module, plan: Plan, tmp_path: Path
) -> None:
    with torch.no_grad():
        small.fc.bias[:2] = torch.tensor([float("nan"), float("-inf")])
    small.train()
    save(tmp_path / "net", small, plan, NAME, ARGS)
    assert small.training
    loaded = prunelab.load(tmp_path / "net")
    assert str(loaded.fc.bias[:2].tolist()) == "[nan, -inf]"
    assert all(p.requires_grad for p in loaded.parameters())


def test_a_plan_takes_half_of_what_its_indices_would(file: Path, plan: Plan) -> None:
    about, _ = opened(file)
    assert len(json.dumps(about["plan"])) < 0.5 * len(json.dumps(plan.to_json()))


def test_the_origin_is_read_without_the_network(file: Path, small: nn.Module, plan: Plan) -> None:
    origin = origin_of(file)
    assert origin is not None
    assert origin.plan.to_json() == plan.to_json()
    assert (origin.name, origin.args) == (NAME, ARGS)
    file.write_bytes(safetensors.torch.save(small.state_dict(), {"format": "pt"}))
    assert origin_of(file) is None
    for bad in [b"", file.read_bytes()[:-1], safetensors.torch.save({}, {"prunelab": '{"format":' * 100_000})]:
        file.write_bytes(bad)
        with pytest.raises(ValueError, match=str(file)):
            origin_of(file)


# --- what is not written


def test_a_network_that_plan_and_name_do_not_rebuild_is_refused(small: nn.Module, plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "net"
    path.write_bytes(b"an older one")
    blocks = Plan(plan.keep, plan.pads, {"layer1.0": "ReLU"})
    dropped, undefined = build("keras_cnn.KerasCNN", {}), build("keras_cnn.KerasCNN", {"dense_dropout": float("nan")})
    cases: list[tuple[nn.Module, Plan, str, dict[str, Any], str]] = [
        (small, Plan(), NAME, ARGS, r"conv1.weight is \("),
        (small, Plan(plan.keep, {}, {}), NAME, ARGS, r"padding=.* where the network has .*padding="),
        (small, blocks, NAME, ARGS, "unknown"),
        (small, plan, NAME, {"num_classes": 9}, r"fc.weight is \(10"),
        (small, plan, "cifar_resnet.resnet20", ARGS, "missing"),
        (small, plan, "torchvision.resnet18", ARGS, "expected one of"),
        (small, plan, "", ARGS, "expected one of"),
        (small, plan, NAME, {"classes": 10}, "it takes"),
        (small, plan, NAME, {"num_classes": [10]}, "expected a number"),
        (dropped, Plan(), "keras_cnn.KerasCNN", {"dense_dropout": 0.1}, r"Dropout\(p=0.1, .*Dropout\(p=0.5"),
        (undefined, Plan(), "keras_cnn.KerasCNN", {"dense_dropout": float("nan")}, "not JSON"),
        (resnet8(), Plan({("conv1.weight", 0): torch.tensor([], dtype=torch.long)}), NAME, {}, "keeps nothing"),
    ]
    for net, given, name, args, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            save(path, net, given, name, args)
        assert str(error.value).startswith(f"{path} is not written: ")
    assert [p.name for p in tmp_path.iterdir()] == ["net"]
    assert path.read_bytes() == b"an older one"


def test_state_that_is_not_a_tensor_is_refused(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"count": 1}

    with pytest.raises(ValueError, match="_extra_state is a dict"):
        save(tmp_path / "net", Counting(2, 2), Plan(), None, {})
    assert not list(tmp_path.iterdir())


def test_a_norm_that_knows_of_masks_is_refused_until_they_are_removed(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4))

    net, x = network(), torch.randn(16, 6)
    pruner = Pruner(Norm(p=1), Channels(), Uniform(), Rounds(rate=0.5, start=0))
    pruner.attach(net, x)
    pruner.update(Progress(step=0, total=1, epoch=1))
    masked = net(x)
    with pytest.raises(ValueError, match="1 is a LayerNorm that counts only .*: remove the masked ones first"):
        save(tmp_path / "net", net, Plan(), None, {})
    assert not list(tmp_path.iterdir())
    _, report = prunelab.prune(net, x, rate=0.5, granularity="channels", inplace=True)
    save(tmp_path / "net", net, report.plan, None, {})
    loaded = prunelab.load(tmp_path / "net", into=network())
    torch.testing.assert_close(loaded(x), masked, rtol=1e-5, atol=1e-6)


class Shifted(nn.Linear):
    """As attention in Swin has: a constant that is in no state_dict."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.register_buffer("shift", torch.ones(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.shift


def test_a_constant_that_is_not_saved_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunelab.models.registry.nets", lambda: {"own.Shifted": Shifted})
    net = Shifted()
    save(tmp_path / "net", net, Plan(), "own.Shifted", {})
    before = torch.get_rng_state()
    assert torch.equal(prunelab.load(tmp_path / "net")(torch.ones(1, 2)), net(torch.ones(1, 2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_state_that_is_not_saved_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunelab.models.registry.nets", lambda: {"own.Shifted": Shifted})
    net = Shifted()
    net.shift += 1
    with pytest.raises(ValueError, match="Shifted has shift, .*persistent"):
        save(tmp_path / "net", net, Plan(), "own.Shifted", {})


def test_a_small_file_of_a_network_too_large_to_build_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunelab.models.registry.nets", lambda: {"own.Shifted": Shifted})
    net, plan = Shifted(), Plan({("weight", 1): torch.tensor([0])})
    shrink(net, plan)
    save(tmp_path / "net", net, plan, "own.Shifted", {})
    monkeypatch.setattr("prunelab.compact.description.MOST", 4)
    with pytest.raises(ValueError, match="its unpruned network has 6 values, expected at most 4"):
        prunelab.load(tmp_path / "net")


# --- refusals


def first(about: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The packed indices of the plan, and the digits of the first."""
    keep = about["plan"]["keep"]
    return keep, next(iter(keep))


def test_a_file_written_by_hand_in_the_format_is_read(file: Path, small: nn.Module) -> None:
    n = len(small.bn1.bias)

    def by_hand(about: dict[str, Any], parts: Parts) -> None:
        about["tensors"]["bn1.bias"] = ["float32", [n], n, "float32", False, 0, ""]
        parts["bn1.bias"] = deflated(bytes(3 * n) + b"\x40" * n)  # 2.0 is 0x40000000

    rewritten(file, by_hand)
    assert prunelab.load(file).bn1.bias.tolist() == [2] * n


def test_files_of_other_kinds_are_refused(tmp_path: Path, small: nn.Module) -> None:
    torch.save(small.state_dict(), tmp_path / "pickled")
    (tmp_path / "text").write_text("import os")
    for path in (tmp_path / "none", tmp_path / "pickled", tmp_path / "text"):
        with pytest.raises(ValueError, match="not a complete safetensors file") as error:
            prunelab.load(path)
        assert str(error.value).startswith(f"{path}: ")
    safetensors.torch.save_file(small.state_dict(), tmp_path / "weights", {"format": "pt"})
    with pytest.raises(ValueError, match=r"without prunelab's description.*pretrained="):
        prunelab.load(tmp_path / "weights")


INVALID = ("", "{", "[]", "1", "null", '"{}"', "{}", "[" * 100_000, '{"format":' * 100_000)


@pytest.mark.parametrize("text", INVALID)
def test_an_invalid_description_is_refused(text: str, file: Path) -> None:
    write(file, deflated(text.encode()), b"")
    with pytest.raises(ValueError, match="not JSON|wrong or missing net=None") as error:
        prunelab.load(file)
    assert str(file) in str(error.value)
    file.write_bytes(safetensors.torch.save({}, {"prunelab": text}))
    with pytest.raises(ValueError, match="not JSON|format=None: expected 3"):
        prunelab.load(file)


def test_a_description_that_would_be_too_long_to_read_is_not_written(
    tmp_path: Path, small: nn.Module, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunelab.compact.description.LONGEST", 1000)
    with pytest.raises(ValueError, match="its description has .* characters, expected at most 1,000"):
        save(tmp_path / "net", small, plan, NAME, ARGS)


def nested(depth: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    return deep


def with_bits(about: dict[str, Any], digits: str) -> None:
    keep, was = first(about)
    keep[digits] = keep.pop(was)


TAMPERED: dict[str, tuple[Change, str]] = {
    "a system call": (lambda a, t: a.update(net="os.system", args={"command": "true"}), "net='os.system': expected"),
    "a module": (lambda a, t: a.update(net="resnet.nn"), "net='resnet.nn': expected one of"),
    "a target": (lambda a, t: a.update(net="prunelab.models.resnet.nn"), "net='prunelab.models.resnet.nn': exp"),
    "dots": (lambda a, t: a.update(net=".."), "net='..': expected one of"),
    "private": (lambda a, t: a.update(net="_private"), "net='_private': expected one of"),
    "net list": (lambda a, t: a.update(net=["resnet.resnet18"]), r"missing net=\['resnet.resnet18'\]"),
    "net number": (lambda a, t: a.update(net=1), "missing net=1"),
    "no net": (lambda a, t: a.pop("net"), "missing net=None"),
    "no args": (lambda a, t: a.pop("args"), "missing args=None"),
    "args list": (lambda a, t: a.update(args=[10]), r"missing args=\[10\]"),
    "args deep": (lambda a, t: a.update(args={"num_classes": nested(50)}), "expected a number"),
    "args unknown": (lambda a, t: a["args"].update(depth=3), "unexpected keyword argument 'depth'.*it takes"),
    "args target": (lambda a, t: a["args"].update(shortcut={"_target_": "os.system"}), "expected a number"),
    "args text": (lambda a, t: a["args"].update(num_classes="10"), "num_classes='10'"),
    "args too many": (lambda a, t: a["args"].update(num_classes=10**13), r"expected \(10000000000000"),
    "args huge": (lambda a, t: a["args"].update(num_classes=10**40), "num_classes=1000"),
    "args zero": (lambda a, t: a["args"].update(num_classes=0), "resnet8"),
    "other net": (
        lambda a, t: (a.update(net="vgg.vgg11", args={}), a["plan"].update(pads={})),
        "VGG, .*must be new and unpruned",
    ),
    "no plan": (lambda a, t: a.pop("plan"), "missing plan=None"),
    "plan list": (lambda a, t: a.update(plan=[]), r"missing plan=\[\]"),
    "plan empty": (lambda a, t: a.update(plan={}), "not a plan of what is kept: KeyError"),
    "plan of nothing": (lambda a, t: a["plan"].update(keep={}, pads={}), r"conv1.weight is .*expected \(16, 3"),
    "keep list": (lambda a, t: a["plan"].update(keep=[]), "its plan cannot be read"),
    "keep nothing": (lambda a, t: with_bits(a, ""), "keeps nothing"),
    "keep zero": (lambda a, t: with_bits(a, "0000"), "keeps nothing"),
    "keep no digits": (lambda a, t: with_bits(a, "zz"), "its plan cannot be read: .*hexadecimal"),
    "out of range": (lambda a, t: with_bits(a, "ffff80"), r"keeps \[0, 1, 2, .*16\]"),
    "far out of range": (lambda a, t: with_bits(a, "ff" * 10**5), r"keeps \[0, 1, 2"),
    "other indices": (lambda a, t: with_bits(a, "80"), "expected"),
    "twice": (lambda a, t: first(a)[0].update({"ff": [["conv1.weight", 0]]}), "'conv1.weight' along 0, twice"),
    "unknown tensor": (lambda a, t: first(a)[0].update({"ff": [["conv9.weight", 0]]}), "cuts conv9.weight"),
    "axis": (lambda a, t: first(a)[0].update({"ff": [["conv1.weight", 9]]}), "along axis 9"),
    "axis behind": (lambda a, t: first(a)[0].update({"ff": [["fc.bias", -1]]}), "along axis -1"),
    "axis text": (lambda a, t: first(a)[0].update({"ff": [["fc.bias", "0"]]}), "along '0'"),
    "axis true": (lambda a, t: first(a)[0].update({"ff": [["fc.bias", False]]}), "along False"),
    "places": (lambda a, t: first(a)[0].update({"ff": [["fc.bias"]]}), "its plan cannot be read"),
    "place list": (lambda a, t: first(a)[0].update({"ff": [[[], 0]]}), "its plan cannot be read"),
    "no places": (lambda a, t: first(a)[0].update({"ff": 1}), "its plan cannot be read"),
    "pads unknown": (lambda a, t: a["plan"].update(pads={"conv1.pad": [0] * 6}), "pads .conv1.pad. by"),
    "pads conv": (lambda a, t: a["plan"].update(pads={"conv1": [0, 0]}), "pads .conv1. by .*unpruned ResNet cannot"),
    "pads wide": (
        lambda a, t: a["plan"].update(pads={"layer2.0.shortcut.pad": [0, 0, 0, 0, 0, 10**12]}),
        "pads .layer2.0.shortcut.pad. by",
    ),
    "pads negative": (lambda a, t: a["plan"].update(pads={"layer2.0.shortcut.pad": [0, 0, 0, 0, 0, -1]}), "by"),
    "pads short": (lambda a, t: a["plan"].update(pads={"layer2.0.shortcut.pad": []}), r"by \(\), which"),
    "pads text": (lambda a, t: a["plan"].update(pads={"layer2.0.shortcut.pad": "0"}), "not a plan"),
    "blocks other": (lambda a, t: a["plan"].update(blocks={"layer1.0": "Tanh"}), "puts Tanh in the place"),
    "blocks unknown": (lambda a, t: a["plan"].update(blocks={"layer9": "ReLU"}), "in the place of 'layer9'"),
    "blocks whole": (lambda a, t: a["plan"].update(blocks={"": "ReLU"}), "in the place of ''"),
    "blocks nested": (lambda a, t: a["plan"].update(blocks={"layer1": "ReLU", "layer1.0.conv1": "ReLU"}), "not fit"),
    "blocks more": (lambda a, t: a["plan"].update(blocks={"layer1.0": "ReLU"}), "unknown"),
    "memory format": (lambda a, t: a.update(channels_last=1), "missing channels_last=1"),
    "digest": (lambda a, t: a.update(args={"num_classes": 1.5}), "num_classes=1.5"),
    "tensor shape": (lambda a, t: a["tensors"]["fc.weight"].__setitem__(1, [9]), r"fc.weight "),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_file_is_refused_with_its_name_and_the_value_and_runs_nothing(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = TAMPERED[what]
    rewritten(file, change)
    monkeypatch.setattr("os.system", lambda command: pytest.fail(f"ran {command}"))
    with pytest.raises(ValueError, match=message) as error:
        prunelab.load(file)
    assert str(error.value).startswith(f"{file}: ")
    assert len(str(error.value)) < 700


def test_nothing_is_unpickled_or_evaluated(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a file's code could run")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    for name in ("torch.load", "hydra.utils.instantiate", "builtins.eval", "builtins.exec"):
        monkeypatch.setattr(name, never)
    prunelab.load(file)
    prunelab.load(file, into=resnet8())


# --- into=


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    net[4].weight = net[2].weight
    return net


def test_tied_parameters_stay_tied(tmp_path: Path) -> None:
    net, stays = tied(), torch.tensor([0, 2, 5])
    axes = [("0.weight", 0), ("2.weight", 0), ("2.weight", 1), ("4.weight", 0), ("4.weight", 1)]
    plan = Plan(dict.fromkeys([*axes, ("0.bias", 0), ("2.bias", 0), ("4.bias", 0)], stays))
    shrink(net, plan)
    save(tmp_path / "net", net, plan, None, {})
    loaded = prunelab.load(tmp_path / "net", into=tied())
    assert loaded[4].weight is loaded[2].weight
    assert_same(loaded, net, torch.ones(1, 4))


def test_a_network_that_a_file_does_not_fit_is_unchanged(file: Path) -> None:
    pruned = resnet8()
    shrink(pruned, Plan({("fc.weight", 1): torch.arange(9)}))
    broken = file.with_name("broken")
    for change, net, message in [
        (None, resnet20(), "layer1.1.conv1.weight is missing"),
        (None, resnet8(shortcut="B"), "pads .layer2.0.shortcut.pad."),
        (None, pruned, "its plan does not fit ResNet, which must be new and unpruned"),
        (None, resnet8(num_classes=9), r"fc.weight is \(10, .*expected \(9"),
        (None, resnet8().to("meta"), "not on the meta device"),
        (TAMPERED["blocks nested"][0], resnet8(), "does not fit"),
        (TAMPERED["tensor shape"][0], resnet8(), "fc.weight"),
        (TAMPERED["pads wide"][0], resnet8(), "pads"),
        (TAMPERED["other indices"][0], resnet8(), "expected"),
    ]:
        broken.write_bytes(file.read_bytes())
        if change:
            rewritten(broken, change)
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        before, state = str(net), {k: v.clone() for k, v in net.state_dict().items()}
        gradients = [p.grad for p in net.parameters()]
        with pytest.raises(ValueError, match=message):
            prunelab.load(broken, into=net)
        assert str(net) == before
        assert net.training
        assert all(v.is_meta or torch.equal(v, net.state_dict()[k]) for k, v in state.items())
        assert all(p.grad is g for p, g in zip(net.parameters(), gradients, strict=True))


def test_a_network_that_keeps_its_state_in_another_form_is_filled(tmp_path: Path) -> None:
    class Doubled(nn.Linear):
        def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[f"{prefix}weight"] = 2 * destination[f"{prefix}weight"]

        def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
            key = f"{prefix}weight"
            super()._load_from_state_dict({**state_dict, key: state_dict[key] / 2}, prefix, *args)

    net = Doubled(3, 3)
    save(tmp_path / "net", net, Plan(), None, {})
    assert_same(prunelab.load(tmp_path / "net", into=Doubled(3, 3)), net, torch.ones(1, 3))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_a_network_whose_hooks_compute_a_weight_is_filled(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), torch.nn.utils.weight_norm(nn.Linear(4, 2)))

    net = network()
    save(tmp_path / "net", net, Plan(), None, {})
    assert_same(prunelab.load(tmp_path / "net", into=network()), net, torch.ones(1, 3))


def test_a_network_that_cannot_be_copied_or_shrunk_is_unchanged(tmp_path: Path) -> None:
    plan, net, sparse = Plan({("weight", 0): torch.tensor([0, 2])}), nn.Linear(3, 3, False), nn.Linear(3, 3, False)
    shrink(net, plan)
    save(tmp_path / "net", net, plan, None, {})
    sparse.weight = nn.Parameter(torch.eye(3).to_sparse())
    with pytest.raises(ValueError, match="unsupported memory format"):
        prunelab.load(tmp_path / "net", into=sparse)
    assert torch.equal(sparse.weight.to_dense(), torch.eye(3))
    with pytest.raises(ValueError, match=r"does not fit LazyLinear, which must be new and unpruned: .*uninitialized"):
        prunelab.load(tmp_path / "net", into=nn.LazyLinear(3, False))


def test_anything_but_a_network_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match=r"into=<function resnet8 .*expected a new, unpruned network"):
        prunelab.load(file, into=resnet8)  # type: ignore[arg-type]


def test_a_trained_network_is_filled_without_its_gradients(file: Path, small: nn.Module) -> None:
    net = resnet8().double()
    net(IMAGES.double()).sum().backward()
    copy.deepcopy(net)
    assert_same(prunelab.load(file, into=net), small)
    assert all(p.grad is None for p in net.parameters())
