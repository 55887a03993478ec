"""Residual blocks: which can be removed, and the network without them."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import pytest
import torch
import torchvision
from small_nets import dense, mobile, narrow_vgg, option_a, option_b
from torch import Tensor, nn
from torch.nn import functional as F

from prunelab.channels.blocks import Block
from prunelab.channels.surgery import shrink
from prunelab.core.allocation import Uniform
from prunelab.core.dry_run import check_run
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.core.types import Example
from prunelab.criteria.norm import Norm
from prunelab.models.cifar_resnet import resnet8, resnet20
from prunelab.models.mobilenet_v2 import MobileNetV2
from prunelab.models.resnet import BasicBlock, resnet18

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
Build = Callable[[], nn.Module]


def bound(net: nn.Module, example: Example = IMAGES, skip: Sequence[str] = ()) -> Block:
    return Block().bind(net, prunable_weights(net, skip), example)


def test_a_block_with_a_frozen_weight_stays() -> None:
    net = option_a()
    net.layer1[1].conv2.requires_grad_(False)
    net.layer2[1].bn1.bias.requires_grad_(False)
    assert [block.path for block in bound(net).blocks] == ["layer1.0", "layer3.1"]


def stand_ins(net: nn.Module, example: Example = IMAGES) -> dict[str, str]:
    """What the units of a network become; nothing where it has none."""
    try:
        return {block.path: block.stand_in for block in bound(net, example).blocks}
    except ValueError as error:
        if "no residual blocks to prune" not in str(error):
            raise
        return {}


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "prunelab.channels.blocks"]


class Skip(nn.Module):
    """x + branch(x), then `after`."""

    def __init__(self, branch: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.after = branch, after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x + self.branch(x))


def conv(width: int = 4) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1)


def norm() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(4)


def behind_a_conv(block: nn.Module, *others: nn.Module) -> nn.Sequential:
    """A network in which "1" is under test."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), block, *others)


# What is a block

FOUND: dict[str, tuple[Build, str]] = {
    "option A": (option_a, "layer1.0 layer1.1 layer2.1 layer3.1"),
    "option B": (option_b, "layer1.0 layer1.1 layer2.1 layer3.1"),
    "mobile": (mobile, "stage2.1 stage3.1 stage3.2"),
}
SLOW: dict[str, tuple[Build, str]] = {
    "resnet20": (resnet20, "layer1.0 layer1.1 layer1.2 layer2.1 layer2.2 layer3.1 layer3.2"),
    "resnet18": (resnet18, "layer1.0 layer1.1 layer2.1 layer3.1 layer4.1"),
    "mobilenet_v2": (
        MobileNetV2,
        "stage2.1 stage3.1 stage3.2 stage4.1 stage4.2 stage4.3 stage5.1 stage5.2 stage6.1 stage6.2",
    ),
    "torchvision resnet50": (
        torchvision.models.resnet50,
        "layer1.1 layer1.2 layer2.1 layer2.2 layer2.3 layer3.1 layer3.2 layer3.3 layer3.4 layer3.5 layer4.1 layer4.2",
    ),
    "torchvision efficientnet_b0": (
        torchvision.models.efficientnet_b0,
        "features.2.1 features.3.1 features.4.1 features.4.2 features.5.1 features.5.2 "
        "features.6.1 features.6.2 features.6.3",
    ),
}


@pytest.mark.parametrize(
    ("build", "paths"),
    [*FOUND.values(), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW.values())],
    ids=[*FOUND, *SLOW],
)
def test_the_blocks_of_known_nets_are_those_with_an_identity_skip(build: Build, paths: str) -> None:
    assert stand_ins(build()) == dict.fromkeys(paths.split(), "Identity")


@pytest.mark.parametrize("build", [narrow_vgg, dense], ids=["VGG", "DenseNet"])
def test_a_net_without_blocks_is_refused_by_name(build: Build) -> None:
    net = build()
    with pytest.raises(ValueError, match=f"{type(net).__name__}: no residual blocks to prune, it has none"):
        bound(net)


def test_without_an_example_the_error_says_where_to_set_it() -> None:
    with pytest.raises(ValueError, match="example_input_array"):
        Block().bind(resnet8(), prunable_weights(resnet8()), None)


def test_a_block_with_a_skipped_weight_stays() -> None:
    net = option_a()
    blocks = bound(net, skip=["layer1.1.conv2.weight", "layer3.*"]).blocks
    assert [block.path for block in blocks] == ["layer1.0", "layer2.1"]
    with pytest.raises(ValueError, match="ResNet: no residual blocks to prune, it has 4"):
        bound(net, skip=["*.conv1.weight"])


def test_a_block_with_nothing_to_prune_stays() -> None:
    assert stand_ins(behind_a_conv(Skip(norm()), Skip(conv()))) == {"2": "Identity"}


def test_without_a_relu_behind_the_sum_or_behind_another_relu_a_block_is_the_identity() -> None:
    preactivation = nn.Sequential(norm(), nn.ReLU(), conv())
    assert stand_ins(behind_a_conv(Skip(preactivation))) == {"1": "Identity"}
    assert stand_ins(behind_a_conv(Skip(conv(), nn.ReLU()))) == {"1": "ReLU"}
    assert stand_ins(behind_a_conv(nn.ReLU(inplace=True), Skip(conv(), nn.ReLU()))) == {"2": "Identity"}
    two = behind_a_conv(Skip(conv(), nn.ReLU()), Skip(conv(), nn.ReLU()))
    assert stand_ins(two) == {"1": "ReLU", "2": "Identity"}


def test_the_innermost_module_is_the_block() -> None:
    inner = nn.Sequential(nn.Sequential(Skip(conv())))
    assert stand_ins(behind_a_conv(inner)) == {"1.0.0": "Identity"}
    assert stand_ins(behind_a_conv(Skip(nn.Sequential(Skip(conv()), conv())))) == {"1.branch.0": "Identity"}


def test_the_whole_net_is_no_block(caplog: pytest.LogCaptureFixture) -> None:
    assert stand_ins(Skip(conv(3))) == {}
    assert messages(caplog) == []


# What is none, and is not even named


class Other(nn.Module):
    """Two convolutions, and what `compute` makes of them and the input."""

    def __init__(self, compute: "Callable[[Other, Tensor], Tensor]") -> None:
        super().__init__()
        self.a, self.b, self.compute = conv(), conv(), compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def _sum_after_inplace_relu(m: Other, x: Tensor) -> Tensor:
    x.relu_()
    return m.a(x) + x


NONE: dict[str, Callable[[Other, Tensor], Tensor]] = {
    "two branches": lambda m, x: m.a(x) + m.b(x),
    "skip of a slice": lambda m, x: m.a(x)[:, :, 1:] + x[:, :, 1:],
    "scaled": lambda m, x: torch.add(m.a(x), x, alpha=2),
    "subtracted": lambda m, x: x - m.a(x),
    "plus a number": lambda m, x: x + 1,
    "behind the sum": lambda m, x: torch.sigmoid(x + m.a(x)),
    "relu and more behind the sum": lambda m, x: m.b(F.relu(x + m.a(x))),
    "other input than the skip": _sum_after_inplace_relu,
}


@pytest.mark.parametrize("compute", NONE.values(), ids=NONE)
def test_other_sums_make_no_block(compute: Callable[[Other, Tensor], Tensor], caplog: pytest.LogCaptureFixture) -> None:
    assert stand_ins(behind_a_conv(Other(compute))) == {}
    assert messages(caplog) == []
    assert stand_ins(behind_a_conv(Other(lambda m, x: x + m.a(x)))) == {"1": "Identity"}


class Wired(nn.Module):
    """A network whose block is used in ways that a chain of modules is not."""

    def __init__(self, block: nn.Module, wire: "Callable[[Wired, Tensor], Tensor]") -> None:
        super().__init__()
        self.stem, self.block, self.wire = nn.Conv2d(3, 4, 1), block, wire

    def forward(self, x: Tensor) -> Tensor:
        return self.wire(self, self.stem(x))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x + self.conv(x if y is None else y)


class Two(Skip):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        branch = self.branch(x)
        return x + branch, branch


def test_a_module_with_two_inputs_or_two_outputs_is_no_block(caplog: pytest.LogCaptureFixture) -> None:
    assert stand_ins(Wired(Pair(), lambda net, x: net.block(x, torch.sigmoid(x)))) == {}
    assert stand_ins(Wired(Two(conv()), lambda net, x: sum(net.block(x)))) == {}
    assert messages(caplog) == []
    assert stand_ins(Wired(Pair(), lambda net, x: net.block(x))) == {"block": "Identity"}


# What looks like a block and is none, and is named


def _sum_before_change(m: Other, x: Tensor) -> Tensor:
    out = m.a(x) + x
    x.view(x.shape).zero_()
    return out


def _with_shared_weight() -> nn.Module:
    net = behind_a_conv(Skip(conv()), conv())
    net[2].weight = net[1].branch.weight
    return net


NAMED: dict[str, tuple[Build, str, str]] = {
    "twice": (lambda: Wired(Skip(conv()), lambda net, x: net.block(net.block(x))), "block", "runs 2 times"),
    "same module": (lambda: behind_a_conv(*[Skip(conv())] * 2), "1", "shares a parameter with 2.branch.weight"),
    "shared": (_with_shared_weight, "1", "shares a parameter with 2.weight"),
    "a part elsewhere": (
        lambda: Wired(Skip(conv()), lambda net, x: net.block(x) * net.block.branch(x)), "block", "also used elsewhere",
    ),
    "unused argument": (lambda: Wired(Pair(), lambda net, x: net.block(x, None)), "block", "takes more than one"),
    "by name": (lambda: Wired(Pair(), lambda net, x: net.block(x=x)), "block", "one by keyword"),
    "in a tuple": (
        lambda: Wired(Two(conv()), lambda net, x: net.block(x)[0]), "block", "does not return one tensor",
    ),
    "bounded branch": (lambda: behind_a_conv(Skip(nn.Sequential(conv(), nn.Sigmoid()))), "1", "is no Identity"),
    "norm without scale": (
        lambda: behind_a_conv(Skip(nn.Sequential(conv(), _without_scale()))), "1", "no Identity",
    ),
    "a part without weights": (
        lambda: behind_a_conv(Other(lambda m, x: x + (m.a(x) + F.avg_pool2d(x, 3, 1, 1)))), "1", "no Identity",
    ),
    "twice itself": (lambda: behind_a_conv(Other(lambda m, x: x + x)), "1", "is no Identity"),
    "broadcast": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 32), Other(lambda m, x: x + m.a(x.expand(-1, 4, 8, 8)))),
        "1", "no Identity",
    ),
    "changed afterwards": (lambda: behind_a_conv(Other(_sum_before_change)), "1", "no Identity"),
    "changed through a view": (
        lambda: behind_a_conv(Other(lambda m, x: m.a(x.view(x.shape).relu_()) + x)), "1", "no Identity",
    ),
}  # fmt: skip


def _without_scale() -> nn.BatchNorm2d:
    bn = nn.BatchNorm2d(4, affine=False)
    assert bn.running_mean is not None
    bn.running_mean += 1
    return bn


@pytest.mark.parametrize(("build", "path", "why"), NAMED.values(), ids=NAMED)
def test_what_looks_like_a_block_and_is_none_is_named(
    build: Build, path: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert stand_ins(build()) == {}
    assert messages(caplog)[0].startswith(f"{path} is not a removable block")
    assert why in messages(caplog)[0]


# What is left without them


def randomized(net: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() == 1:
                p.copy_(torch.rand_like(p) + 0.5 if name.endswith("weight") else torch.randn_like(p))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            elif isinstance(module, nn.Dropout):
                module.p = 0.0
    return net


class InPlace(nn.Module):
    """As torchvision writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = conv(), norm(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv(x))
        out += x
        return self.relu(out)


class IntoTheInput(InPlace):
    def forward(self, x: Tensor) -> Tensor:
        x += self.bn(self.conv(x))
        return x


def _with_stochastic_depth() -> nn.Module:
    depth = torchvision.ops.StochasticDepth(0.5, "row")
    return behind_a_conv(*[Skip(nn.Sequential(conv(), norm(), depth)) for _ in range(3)], conv())


NETS: dict[str, Build] = {
    "option A": option_a,
    "mobile": mobile,
    "torchvision": lambda: torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [2, 1, 1, 1]),
    "stochastic depth": _with_stochastic_depth,
    "input with both signs": lambda: behind_a_conv(BasicBlock(4, 4, 1, nn.Identity()), conv()),
    "preactivation": lambda: behind_a_conv(
        *[Skip(nn.Sequential(norm(), nn.ReLU(), conv())) for _ in range(2)], nn.ReLU(inplace=True), conv()
    ),
    "ends in a convolution": lambda: behind_a_conv(Skip(nn.Sequential(norm(), conv()), nn.ReLU()), conv()),
    "in place": lambda: behind_a_conv(InPlace(), InPlace(), conv()),
    "into the input": lambda: behind_a_conv(IntoTheInput(), conv()),
}
SLOW_WITHOUT = ("resnet20", "mobilenet_v2", "torchvision efficientnet_b0")


@pytest.mark.parametrize(
    "build",
    [*NETS.values(), *(pytest.param(SLOW[name][0], marks=pytest.mark.slow) for name in SLOW_WITHOUT)],
    ids=[*NETS, *SLOW_WITHOUT],
)
def test_without_the_removed_blocks_a_net_computes_what_the_masked_one_does(build: Build) -> None:
    net = randomized(build())
    block = bound(net)
    for stays in {0, len(block.blocks) // 2}:  # so many of the first ones
        keep = {"blocks": block.numbers["blocks"] < stays}
        masked, small = deepcopy(net), deepcopy(net)
        for name, mask in block.expand(keep).items():
            masked.get_parameter(name).data.mul_(mask)
        shrink(small, block.plan(keep))
        for training in (False, True):
            dense, expected, outputs = (_output(one, training) for one in (net, masked, small))
            assert (outputs - expected).abs().max() <= 1e-6 * expected.abs().max()
            assert (dense - expected).abs().max() > 1e-3 * expected.abs().max()


def _output(net: nn.Module, training: bool) -> Tensor:
    """From the same random stream: stochastic depth draws for the blocks that stay before those that may be gone."""
    torch.manual_seed(2)
    return net.train(training)(IMAGES)


def test_looking_for_blocks_leaves_no_trace() -> None:
    net = randomized(resnet8()).train()
    before, stream = deepcopy(net.state_dict()), torch.get_rng_state()
    bound(net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(module.training and not module._forward_hooks for module in net.modules())


def test_a_block_that_holds_one_module_under_two_names_keeps_its_parameters() -> None:
    shared = conv()
    net = behind_a_conv(Skip(nn.Sequential(shared, nn.ReLU(), shared)))
    assert stand_ins(net) == {"1": "Identity"}
    assert shared.weight is dict(net.named_parameters())["1.branch.0.weight"]
    assert isinstance(shared.weight, nn.Parameter)
    assert shared.weight.all()


# Scores and masks


def two_blocks() -> tuple[nn.Module, Block]:
    net = behind_a_conv(Skip(nn.Sequential(conv(), norm(), nn.Conv2d(4, 4, 1))), Skip(conv()))
    return net, bound(net)


def scores_of(block: Block) -> dict[str, Tensor]:
    return {name: torch.ones(block.shapes[name]) for names in block.weights for name in names}


def test_a_score_is_the_mean_over_all_weights_of_the_block() -> None:
    _, block = two_blocks()
    scores = scores_of(block)
    assert {name: w.numel() for name, w in scores.items()} == {
        "1.branch.0.weight": 144, "1.branch.2.weight": 16, "2.branch.weight": 144,
    }  # fmt: skip
    scores["1.branch.2.weight"] *= 21  # (144 + 21 * 16) / 160
    assert block.reduce(scores)["blocks"].tolist() == [3.0, 1.0]


def test_what_is_gone_does_not_count_and_a_block_without_anything_is_gone() -> None:
    _, block = two_blocks()
    scores = scores_of(block)
    scores["1.branch.0.weight"].fill_(-torch.inf)
    scores["1.branch.2.weight"] *= 5
    scores["2.branch.weight"].fill_(-torch.inf)
    assert block.reduce(scores)["blocks"].tolist() == [5.0, -torch.inf]
    scores["1.branch.2.weight"][0, 0] = torch.nan
    assert block.reduce(scores)["blocks"].isnan().tolist() == [True, False]


def test_scores_that_leave_out_a_weight_are_refused() -> None:
    _, block = two_blocks()
    scores = scores_of(block)
    del scores["1.branch.2.weight"]
    with pytest.raises(ValueError, match="does not score 1.branch.2.weight"):
        block.reduce(scores)


def test_masks_cover_every_parameter_of_a_removed_block_and_nothing_else() -> None:
    net, block = two_blocks()
    first = {f"1.branch.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}
    second = {"2.branch.weight", "2.branch.bias"}
    assert block.members == {**dict.fromkeys(first, 0), **dict.fromkeys(second, 1)}
    masks = block.expand({"blocks": torch.tensor([False, True])})
    assert masks.keys() == first
    assert {name: mask.shape for name, mask in masks.items()} == {n: net.get_parameter(n).shape for n in first}
    assert all(mask.dtype == torch.bool and not mask.any() for mask in masks.values())
    assert block.expand({"blocks": torch.tensor([True, True])}) == block.expand({}) == {}
    assert block.plan({"blocks": torch.tensor([True, False])}).blocks == {"2": "Identity"}
    assert not block.plan({"blocks": torch.tensor([True, True])})
    assert not block.plan({})


def test_rates_and_checkpoints_count_blocks() -> None:
    net = option_a()
    for p in net.get_submodule("layer2.1").parameters():
        p.data *= 1e-3  # the least of the four
    pruners = [Pruner(Norm(p=1), Block(), Uniform(), Rounds(rate=1 / 4, start=0.0)) for _ in range(2)]
    for pruner in pruners:
        pruner.attach(net, IMAGES)
        pruner.load_state_dict(pruner.state_dict())  # nothing is pruned yet
    assert pruners[0].unit_counts() == {"blocks": (0, 4)}
    check_run(pruners[0], Progress(0, total=100, epoch=10))
    assert pruners[0].update(Progress(0, total=100, epoch=10))
    assert pruners[0].unit_counts() == {"blocks": (1, 4)}
    assert pruners[0].masks.keys() == {n for n, _ in net.named_parameters() if n.startswith("layer2.1.")}
    pruners[1].load_state_dict(pruners[0].state_dict())
    assert pruners[1].masks.keys() == pruners[0].masks.keys()


# Scaling factors


class Rows(nn.Module):
    """Linear layers, with the channels along the last axis: (n, 3, 32, 32) -> (n, 96, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.fc = Skip(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))), nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(x.flatten(1, 2)))


OUTLETS: dict[str, tuple[Build, dict[str, int]]] = {
    "resnet8": (resnet8, {"layer1.0.bn2": 16}),
    "linear": (Rows, {"block.branch.2": 32}),
    "two": (lambda: behind_a_conv(Skip(conv(), nn.ReLU()), InPlace(), conv()), {"1.branch": 4, "2.bn": 4}),
}


@pytest.mark.parametrize(("build", "channels"), OUTLETS.values(), ids=OUTLETS)
def test_a_block_scaled_by_0_at_its_outlet_is_as_masked(build: Build, channels: dict[str, int]) -> None:
    net = randomized(build()).eval()
    block = bound(net)
    assert {name: len(unit) for name, unit in block.scaling_modules.items()} == channels
    assert block.numbers["blocks"].tolist() == list(range(len(block.blocks)))
    for number in range(len(block.blocks)):
        keep = {"blocks": block.numbers["blocks"] != number}
        scaled, masked = deepcopy(net), deepcopy(net)
        for name, unit in block.scaling_modules.items():
            module = scaled.get_submodule(name)
            factor = (unit != number).float().view([-1] if isinstance(module, nn.Linear) else [-1, 1, 1])
            module.register_forward_hook(lambda _, args, out, factor=factor: out * factor)
        for name, mask in block.expand(keep).items():
            masked.get_parameter(name).data.mul_(mask)
        assert torch.allclose(scaled(IMAGES), masked(IMAGES), atol=1e-6)
        assert not torch.allclose(net(IMAGES), masked(IMAGES), atol=1e-3)


def _twice_in_the_branch() -> nn.Module:
    same = norm()
    return nn.Sequential(same, conv(), same)


@pytest.mark.parametrize(
    "branch",
    [
        lambda: nn.Sequential(conv(), nn.ReLU()),
        lambda: nn.Sequential(conv(), nn.Dropout()),
        lambda: nn.Sequential(conv(), nn.PReLU(4)),
        lambda: nn.Sequential(nn.GroupNorm(2, 4, affine=False), conv(), nn.GroupNorm(2, 4, affine=False)),
        _twice_in_the_branch,
    ],
    ids=["relu", "dropout", "prelu", "norm without scale", "a module that runs twice"],
)
def test_a_branch_that_no_layer_ends_has_no_outlet(branch: Build) -> None:
    block = bound(behind_a_conv(Skip(branch()), Skip(conv())))
    assert [b.path for b in block.blocks] == ["1", "2"]
    assert {name: unit.tolist() for name, unit in block.scaling_modules.items()} == {"2.branch": [1, 1, 1, 1]}
