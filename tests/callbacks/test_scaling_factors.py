"""DSSS: factors follow the paper's equations, fold exactly, and survive a kill."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from resumable import Resumable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.rewind import Rewind
from prunelab.callbacks.scaling_factors import ScalingFactors
from prunelab.callbacks.shrink import Shrink
from prunelab.channels.blocks import Block
from prunelab.channels.factors import Factors, proximal_step
from prunelab.channels.units import Channels, Filter, PrunableStructure
from prunelab.core.allocation import Global
from prunelab.core.context import Context
from prunelab.core.granularity import Weight
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.core.types import Masks
from prunelab.criteria.factor import Factor
from prunelab.criteria.norm import Norm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty.*"),
]
STEPS, LR = 8, 0.05  # of an epoch; of the optimizer


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn_a = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b, self.bn_b = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn_b(self.b(torch.relu(self.bn_a(self.a(x))))))


def plain() -> nn.Sequential:
    """Without norms, as the network of the Keras example: 4 filters and 6 neurons are units."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 6), nn.ReLU(), nn.Linear(6, 3)
    )


def residual() -> nn.Sequential:
    """A stream of 8 channels through a stem and two blocks, 8 channels inside each block, 6 neurons: 30 units."""
    stem = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), Residual(), Residual()]
    return nn.Sequential(*stem, nn.Flatten(), nn.Linear(288, 6), nn.ReLU(), nn.Linear(6, 3))


class Foreign(L.LightningModule):
    """Somebody's module: its own network, loss, optimizer and schedule."""

    def __init__(self, net: Callable[[], nn.Module] = plain) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = net()
        self.example_input_array = torch.zeros(2, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), LR, momentum=0.9, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4 * STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Watch(L.Callback):
    """Keeps the factors after each step, and fails in one of them."""

    def __init__(self, factors: ScalingFactors, die: int | None = None) -> None:
        self.callback, self.die = factors, die
        self.values: dict[int, Tensor] = {}
        self.velocity: dict[int, Tensor] = {}
        self.hooks: dict[int, int] = {}
        self.zero: dict[int, float] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        step = trainer.global_step  # of the batches of one step, the last counts
        if (factors := self.callback.factors) is not None:
            self.values[step] = factors.values.detach().clone()
            self.velocity[step] = factors.velocity.clone()
        self.hooks[step] = hooks(pl_module)
        if step == self.die:
            raise KeyError("died")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if "factors/zero" in trainer.callback_metrics:
            self.zero[trainer.global_step] = float(trainer.callback_metrics["factors/zero"])


class Stop(L.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.global_step == self.step


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def batches() -> TensorDataset:
    g = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(64, 1, 8, 8, generator=g), torch.randint(0, 3, (64,), generator=g))


def pruning(rate: float = 0.5, units: Any = None, schedule: Schedule | None = None) -> Pruning:
    return Pruning(Pruner(Factor(), units or Channels(), Global(), schedule or Rounds(rate, start="2ep")))


Fit = Callable[..., L.Trainer]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    def run(
        callbacks: list[L.Callback],
        module: L.LightningModule | None = None,
        ckpt: Path | None = None,
        **options: Any,
    ) -> L.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        default = {"max_epochs": 4, "accelerator": "cpu", "enable_checkpointing": False, "default_root_dir": tmp_path}
        trainer = L.Trainer(callbacks=callbacks, **(quiet | default | options))
        module = module if module is not None else Foreign()
        trainer.fit(module, Resumable(batches(), 8), ckpt_path=ckpt)
        return trainer

    return run


def same(a: nn.Module, b: nn.Module) -> bool:
    return a.state_dict().keys() == b.state_dict().keys() and all(
        torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items()
    )


def by_hand(factor: float, v: float, g: float, lr: float, gamma: float, mu: float = 0.9) -> tuple[float, float]:
    """Eq. 11-13, one factor at a time."""
    moved = factor - lr * g
    z = (1 if moved > 0 else -1) * max(0.0, abs(moved) - lr * gamma)
    v = z - factor + mu * v
    return max(0.0, z + mu * v), v


def test_steps_are_the_equations_worked_by_hand() -> None:
    """On (x - 2)^2 / 2 from 1, lr 0.1, gamma 0.5, momentum 0.5: g = -1, z = 1.05, v = 0.05, x = 1.075, and so on.

    A second factor with gradient 4 meets the clamp, and comes to rest at exactly 0.
    """
    x, v = torch.tensor([1.0, 0.3]), torch.zeros(2)
    x, v = proximal_step(x, v, torch.tensor([x[0] - 2, 4.0]), 0.1, 0.5, 0.5)
    torch.testing.assert_close(x, torch.tensor([1.075, 0.0]))  # 0.3 - 0.4 + 0.05 = -0.05, v = -0.35, x = -0.225
    torch.testing.assert_close(v, torch.tensor([0.05, -0.35]))
    x, v = proximal_step(x, v, torch.tensor([x[0] - 2, 0.0]), 0.1, 0.5, 0.5)
    # g = -0.925, z = 1.1175, v = 0.0425 + 0.025 = 0.0675, x = 1.15125; the second: z = 0, v = -0.175
    torch.testing.assert_close(x, torch.tensor([1.15125, 0.0]))
    torch.testing.assert_close(v, torch.tensor([0.0675, -0.175]))
    assert x[1] == 0


@pytest.mark.parametrize(("centre", "gamma"), [(2.0, 0.5), (0.4, 0.5), (-1.0, 0.1)])
def test_on_a_quadratic_the_soft_threshold_of_its_centre_is_found(centre: float, gamma: float) -> None:
    """The minimum of (x - c)^2 / 2 + gamma * x over x >= 0 is max(0, c - gamma); 0 is met exactly."""
    x, v = torch.ones(1), torch.zeros(1)
    for _ in range(300):
        x, v = proximal_step(x, v, x - centre, 0.1, gamma, 0.9)
    torch.testing.assert_close(x, torch.tensor([max(0.0, centre - gamma)]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("constant_lr", [None, 0.02])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_is_that_of_a_plain_loop_with_the_factors_written_into_the_net(
    fit: Fit, accumulate: int, constant_lr: float | None
) -> None:
    gamma, module = 0.1, Foreign()
    callback = ScalingFactors(gamma, lr=constant_lr)
    watch = Watch(callback)
    options = {"accumulate_grad_batches": accumulate, "gradient_clip_val": 0.05}
    fit([callback, pruning(), Stop(4), watch], module, **options)
    assert max(watch.values) == 4

    net, factors, velocity = Foreign().body, torch.ones(10, requires_grad=True), [0.0] * 10
    optimizer = torch.optim.SGD(net.parameters(), LR, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4 * STEPS)
    for i, (x, y) in enumerate(Resumable(batches(), 8)):
        step, last_of_step = 1 + i // accumulate, (i + 1) % accumulate == 0
        if step > 4:
            break
        hidden = torch.relu(net[0](x) * factors[:4].view(1, 4, 1, 1)).flatten(1)
        hidden = torch.relu(net[3](hidden) * factors[4:])
        (F.cross_entropy(net[5](hidden), y) / accumulate).backward()
        if last_of_step:
            nn.utils.clip_grad_norm_(net.parameters(), 0.05)
            optimizer.step()
            lr, grads = constant_lr or optimizer.param_groups[0]["lr"], factors.grad.tolist()
            moves = [by_hand(*each, lr, gamma) for each in zip(factors.tolist(), velocity, grads, strict=True)]
            factors, velocity = torch.tensor([f for f, _ in moves], requires_grad=True), [v for _, v in moves]
            schedule.step()
            optimizer.zero_grad()
            torch.testing.assert_close(watch.values[step], factors.detach(), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(watch.velocity[step], torch.tensor(velocity), rtol=1e-4, atol=1e-6)
    folded = {"0.weight": factors[:4, None, None, None], "0.bias": factors[:4], "3.bias": factors[4:]}
    folded["3.weight"] = factors[4:, None]  # the fit stopped short of the pruning, and what it had was folded
    for name, p in net.named_parameters():
        torch.testing.assert_close(module.body.get_parameter(name), p * folded.get(name, 1), rtol=1e-4, atol=1e-6)


def test_without_a_gamma_it_follows_from_the_travel(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    """4 over the sum of lr / (1 - momentum) until the pruning after two epochs of STEPS; lr half a cosine."""
    caplog.set_level(logging.INFO)
    ends = []
    total = sum(LR / 2 * (1 + math.cos(math.pi * step / (4 * STEPS))) for step in range(2 * STEPS))
    for gamma in (None, 4 / (total / 0.1)):
        callback = ScalingFactors(gamma)
        watch = Watch(callback)
        fit([callback, pruning(), watch], Foreign(residual))
        ends.append(watch.values[STEPS])
    torch.testing.assert_close(*ends)
    assert any("moves one that nothing else moves by 4, from 1" in m for m in caplog.messages)
    fit([ScalingFactors(1e-3), pruning()], Foreign(residual))
    assert any(m.startswith("no factor can reach 0: gamma=0.001 moves by") for m in caplog.messages)


def test_beside_adam_factors_take_the_steps_of_sgd_on_its_schedule(fit: Fit) -> None:
    class Adam(Foreign):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 1e-3)

    ends = []
    for lr in (None, 0.1):
        watch = Watch(callback := ScalingFactors(0.05, lr=lr))
        fit([callback, pruning(), watch], Adam(residual))
        ends.append(watch.values[STEPS])
    assert torch.equal(*ends)


def test_a_large_gamma_makes_exact_zeros_and_the_log_tells_their_share(fit: Fit) -> None:
    callback = ScalingFactors(gamma=0.24)
    watch = Watch(callback)
    fit([callback, pruning(), watch], Foreign(residual))
    zeros = {step: float((values == 0).float().mean()) for step, values in watch.values.items()}
    assert 0 < zeros[2 * STEPS] < 1
    assert watch.zero[2 * STEPS] == pytest.approx(zeros[2 * STEPS])
    assert all(values.min() >= 0 for values in watch.values.values())
    callback = ScalingFactors(gamma=0.0)
    watch = Watch(callback)
    fit([callback, pruning(), watch], Foreign(residual))
    assert all((values > 0).all() for values in watch.values.values())


def test_the_units_of_the_smallest_factors_are_removed(fit: Fit) -> None:
    callback, prunes = ScalingFactors(gamma=0.05), pruning()
    watch = Watch(callback)
    fit([callback, prunes, watch], Foreign(residual))
    values = watch.values[2 * STEPS]
    assert len(values.unique()) > 20
    kept = torch.cat(list(prunes.pruner.keep.values()))
    assert kept.sum() == 15
    assert values[~kept].max() <= values[kept].min()
    assert torch.equal(kept[values.argsort()], torch.arange(30) >= 15)


def test_coupled_residual_units_share_one_factor() -> None:
    """Those of the stream lie behind the stem and behind both blocks."""
    net = residual()
    factors = Factors(net, units_of(net))
    assert set(factors.scaling_modules) == {"1", "3.bn_a", "3.bn_b", "4.bn_a", "4.bn_b", "6"}
    assert len(factors.values) == 8 + 8 + 8 + 6
    with torch.no_grad():
        factors.values.copy_(torch.arange(1, 31))
    factors.fold(net)
    stem, one, two = (net.get_submodule(path).weight for path in ("1", "3.bn_b", "4.bn_b"))  # scales start at 1
    assert torch.equal(stem, one)
    assert torch.equal(stem, two)
    assert len({*stem.tolist(), *net[3].bn_a.weight.tolist(), *net[4].bn_a.weight.tolist()}) == 24


class Twice(nn.Module):
    """The first layer is used twice, and has two names; two other layers share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.alias = self.again
        self.one, self.two = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 1)
        self.two.weight = self.one.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.again(torch.relu(self.stem(x))))
        x = torch.tanh(self.alias(x))
        return self.head((torch.relu(self.one(x)) + torch.sigmoid(self.two(x))).mean((2, 3)))


class Partly(nn.Module):
    """The input of the network is added to the first two channels of four, which must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other, self.head = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 2, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x) + torch.cat([x, x, self.other(x)], 1)).mean((2, 3)))


def grouped() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3, groups=3), nn.Softplus(),
        nn.Conv2d(12, 8, 1), nn.GroupNorm(4, 8), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Linear(5, 3),
    )  # fmt: skip


def randomised(net: nn.Module) -> nn.Module:
    """Norms as after some training, in double precision: rounding hides nothing."""
    g = torch.Generator().manual_seed(3)
    for tensor in [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]:
        if tensor.dim() == 1:
            tensor.data = torch.rand(tensor.shape, generator=g) + 0.2
    return net.double()


def units_of(net: nn.Module, granularity: PrunableStructure | None = None) -> PrunableStructure:
    example = torch.zeros(2, 1, 8, 8, dtype=next(net.parameters()).dtype)
    return (granularity or Channels()).bind(net, prunable_weights(net), example)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("granularity", [Channels(), Filter(), Block()])
@pytest.mark.parametrize("make", [plain, residual, grouped, Twice, Partly])
def test_folding_keeps_the_function(make: Callable, granularity: PrunableStructure, training: bool) -> None:
    torch.manual_seed(0)
    net = randomised(make()).train(training)
    if isinstance(granularity, Block) and make is not residual:
        return
    factors = Factors(net, units_of(net, granularity))
    with torch.no_grad():
        factors.values.copy_(torch.rand(len(factors.values)) * 1.5)
        factors.values[::3] = 0
    x = torch.randn(5, 1, 8, 8, dtype=torch.double)
    without = net(x)
    handles = factors.hook(net)
    scaled = net(x)
    for handle in handles:
        handle.remove()
    factors.fold(net)
    torch.testing.assert_close(net(x), scaled, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(without, scaled, rtol=1e-3)


def test_channels_that_are_no_unit_stay_as_they_are() -> None:
    net = Partly()
    factors, before = Factors(net, units_of(net)), net.conv.weight.detach().clone()
    assert len(factors.values) == 2
    with torch.no_grad():
        factors.values.copy_(torch.tensor([0.5, 2.0]))
    factors.fold(net)
    assert torch.equal(net.conv.weight, before * torch.tensor([1, 1, 0.5, 2]).view(4, 1, 1, 1))


def test_what_is_folded_in_training_computes_what_it_did_with_factors(fit: Fit) -> None:
    """In float32, across the last pruning of a fit, for the living units."""
    module, callback, x = Foreign(residual), ScalingFactors(gamma=0.05), batches().tensors[0]
    outputs: list[Tensor] = []

    class Look(L.Callback):
        def on_pruned(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
            with torch.no_grad():
                outputs.append(pl_module.eval()(x))
            pl_module.train()

    fit([Look(), callback, pruning(), Look()], module)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-6, atol=1e-6)
    assert outputs[0].std() > 1e-3


def test_killed_before_between_and_after_prunings_it_ends_in_the_same_bits(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Prunings after 2 and 3 epochs of 4, with a rewind of the learning rate."""

    def run(died: int | None = None) -> tuple[L.LightningModule, Watch, Masks, str]:
        callback, module = ScalingFactors(gamma=0.05), Foreign(residual)
        prunes = pruning(schedule=Rounds(0.6, n=2, start="2ep", training="2ep", rewind="1ep"))
        watch, rewind = Watch(callback), Rewind("1ep", parameters=False, buffers=False, optimizer=False)
        every = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
        ckpt = None if died is None else tmp_path / f"at-step={died}.ckpt"
        fit([callback, prunes, rewind, watch, every], module, ckpt, enable_checkpointing=True)
        return module, watch, prunes.pruner.keep, [words for words in caplog.messages if "removed units" in words][-1]

    whole, watch, keep, message = run()
    assert max(watch.values) == 3 * STEPS
    for died in (STEPS, 2 * STEPS - 1, 2 * STEPS, 2 * STEPS + 3, 3 * STEPS + 3):
        module, resumed, again, words = run(died)
        assert same(whole, module), died
        assert set(resumed.values) == {step for step in watch.values if step > died}
        for step, values in resumed.values.items():
            assert torch.equal(values, watch.values[step])
            assert torch.equal(resumed.velocity[step], watch.velocity[step])
        assert all(torch.equal(kept, again[name]) for name, kept in keep.items())
        assert died > 3 * STEPS or words == message  # what was cut before the kill is counted


def test_between_rounds_what_is_removed_has_factor_0_and_the_others_go_on(fit: Fit) -> None:
    callback, prunes = ScalingFactors(gamma=0.05), pruning(schedule=Rounds(0.6, n=2, start="1ep"))
    watch, masks = Watch(callback), dict[int, Tensor]()

    class Note(L.Callback):
        def on_pruned(self, trainer: L.Trainer, *_: object) -> None:
            masks[trainer.global_step] = torch.cat(list(prunes.pruner.keep.values()))

    fit([callback, prunes, Note(), watch], Foreign(residual))
    first, second = sorted(masks)
    assert (masks[first] != masks[second]).any()
    for step in range(first + 1, second + 1):
        assert not watch.values[step][~masks[first]].any()
        assert not watch.velocity[step][~masks[first]].any()
        assert (watch.values[step] != watch.values[step - 1])[masks[first]].any()
    assert watch.values[first][~masks[first]].any()
    assert max(watch.values) == second
    assert not masks[second][~masks[first]].any()


def test_with_rate_zero_training_is_that_without_it_in_every_bit(fit: Fit) -> None:
    dense, zero = Foreign(residual), Foreign(residual)
    callback = ScalingFactors(gamma=0.4)
    watch = Watch(callback)
    fit([], dense)
    fit([callback, pruning(rate=0.0), watch], zero)
    assert same(dense, zero)
    assert set(watch.hooks.values()) == {0}
    assert not watch.zero
    assert not watch.values


def test_hooks_act_until_the_last_pruning_and_the_state_dict_stays_as_it_is(fit: Fit) -> None:
    module, callback = Foreign(residual), ScalingFactors(gamma=0.05)
    names = list(module.state_dict())
    watch = Watch(callback)
    trainer = fit([callback, pruning(), watch], module)
    assert {step for step, count in watch.hooks.items() if count} == set(range(1, 2 * STEPS + 1))
    assert list(module.state_dict()) == names
    assert not trainer.optimizers[0]._optimizer_step_post_hooks
    assert callback.state_dict()["values"] is None


def test_an_exception_leaves_no_hooks_but_the_factors_for_who_saves_then(fit: Fit) -> None:
    module, callback, optimizers = Foreign(), ScalingFactors(gamma=0.05), []

    class Keep(L.Callback):
        def on_train_start(self, trainer: L.Trainer, *_: object) -> None:
            optimizers.extend(trainer.optimizers)

    watch = Watch(callback, die=5)
    with pytest.raises(KeyError, match="died"):
        fit([callback, pruning(), Keep(), watch], module)
    assert watch.hooks[5] == 2
    assert hooks(module) == 0
    assert not optimizers[0]._optimizer_step_post_hooks
    assert torch.equal(callback.state_dict()["values"], watch.values[5])


def test_used_for_two_fits_it_does_the_same_twice(fit: Fit, tmp_path: Path) -> None:
    """Also after a fit that died, and one that went on from its checkpoint."""
    callback, prunes, fresh, ends = ScalingFactors(gamma=0.05), pruning(), Foreign(), []
    saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=1, save_top_k=-1, save_last=False)
    with pytest.raises(KeyError, match="died"):
        fit([callback, prunes, saves, Watch(callback, die=5)], enable_checkpointing=True)
    for ckpt in (tmp_path / "at-step=4.ckpt", None, None):
        module = Foreign()
        fit([callback, prunes, saves], module, ckpt, enable_checkpointing=True)
        ends.append(module)
    fit([ScalingFactors(gamma=0.05), pruning()], fresh)
    assert all(same(module, fresh) for module in ends)


def test_a_checkpoint_with_factors_is_not_evaluated_without_them(fit: Fit, tmp_path: Path) -> None:
    class Judged(Foreign):
        def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("loss", F.cross_entropy(self(batch[0]), batch[1]))

    saves = ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=8, save_top_k=-1)
    trainer = fit([ScalingFactors(gamma=0.05), pruning(), saves], Judged(), enable_checkpointing=True)

    def test(step: int) -> None:
        callbacks = [ScalingFactors(gamma=0.05), pruning(), saves]
        again = L.Trainer(callbacks=callbacks, accelerator="cpu", logger=False, enable_progress_bar=False)
        again.test(Judged(), Resumable(batches(), 8), ckpt_path=tmp_path / f"at-step={step}.ckpt", verbose=False)

    assert trainer.global_step == 32
    with pytest.raises(ValueError, match="multiplied by factors until it is pruned: finish its training first"):
        test(16)
    test(24)


def test_a_training_that_stops_short_of_the_pruning_keeps_its_function(fit: Fit) -> None:
    module, callback, x, outputs = Foreign(residual), ScalingFactors(gamma=0.05), batches().tensors[0], []

    class Look(L.Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            with torch.no_grad():
                outputs.append(pl_module.eval()(x))

    fit([callback, pruning(schedule=Rounds(0.5, start=0.5)), Stop(9), Look()], module)
    assert hooks(module) == 0
    torch.testing.assert_close(module.eval()(x), outputs[0], rtol=1e-5, atol=1e-6)


def test_a_ramp_folds_at_its_end(fit: Fit) -> None:
    module, callback = Foreign(residual), ScalingFactors(gamma=0.05)
    prunes, watch = pruning(schedule=Cubic(0.5, start="1ep", end="3ep", every="2it")), Watch(callback)
    fit([callback, prunes, watch], module)
    assert max(watch.values) == 3 * STEPS
    assert prunes.pruner.rate == 0.5
    assert all(not module.get_parameter(name)[~mask].any() for name, mask in prunes.pruner.masks.items())


def test_a_compiled_net_has_its_factors_after_the_sanity_check_and_none_after_folding(fit: Fit) -> None:
    eager, compiled = Foreign(), Foreign()
    compiled.body.compile(backend="eager")
    for module in (eager, compiled):
        module.train()(batches().tensors[0][:8])  # as of the sanity check: compiled before there are hooks
        fit([ScalingFactors(gamma=0.05), pruning()], module)
    for name, tensor in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_under_autocast_factors_stay_float32_and_outputs_what_they_were(fit: Fit) -> None:
    module, callback, types = Foreign(residual), ScalingFactors(gamma=0.05), set()

    class Look(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.body[6].register_forward_hook(lambda _, __, out: types.add(out.dtype))

    watch = Watch(callback)
    fit([callback, pruning(), Look(), watch], module, precision="bf16-mixed")
    assert types == {torch.bfloat16}
    assert {values.dtype for values in watch.values.values()} == {torch.float32}
    assert (watch.values[5] != 1).all()


def test_an_optimizer_that_evaluates_twice_counts_the_last_gradient(fit: Fit) -> None:
    class TwiceEvaluated(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            closure()
            return super().step(closure)

    class Module(Foreign):
        def __init__(self, optimizer: type[torch.optim.SGD]) -> None:
            super().__init__()
            self.kind = optimizer

        def configure_optimizers(self) -> Any:
            return self.kind(self.parameters(), LR)

    once, twice = (Watch(ScalingFactors(gamma=0.05)) for _ in range(2))
    for watch, optimizer in ((once, torch.optim.SGD), (twice, TwiceEvaluated)):
        fit([watch.callback, pruning(), watch], Module(optimizer))
    assert all(torch.equal(values, twice.values[step]) for step, values in once.values.items())


def test_manual_optimization_trains_the_same_factors(fit: Fit) -> None:
    class Manual(Foreign):
        def __init__(self, automatic: bool) -> None:
            super().__init__()
            self.automatic_optimization = automatic

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            if not self.automatic_optimization:
                optimizer: Any = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), LR)

    automatic, manual = (Watch(ScalingFactors(gamma=0.05)) for _ in range(2))
    fit([automatic.callback, pruning(), automatic], Manual(True))
    fit([manual.callback, pruning(), manual], Manual(False))
    assert all(torch.equal(values, manual.values[step]) for step, values in automatic.values.items())


def test_the_small_net_follows(fit: Fit) -> None:
    module, callback, shrink = Foreign(residual), ScalingFactors(gamma=0.05), Shrink()
    fit([callback, pruning(), shrink], module)
    assert shrink.certificate is not None
    assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in Foreign(residual).parameters())


def test_the_log_tells_how_many_factors_were_zero_and_warns_of_those_that_were_not(
    fit: Fit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "prunelab.callbacks.scaling_factors")
    callback = ScalingFactors(gamma=0.24)
    watch = Watch(callback)
    fit([callback, pruning(), watch], Foreign(residual))
    values = watch.values[2 * STEPS]
    zeros, largest = int((values == 0).sum()), values.sort().values[14]
    assert 0 < zeros < 15
    assert f"{zeros} of 30 were exactly 0; pruning removed 15 units" in caplog.text
    assert f"removed 15 units, with factors up to {largest:.3g}" in caplog.text
    assert f"{15 - zeros} of the 15 removed units had factors above 0, up to {largest:.3g}" in caplog.text
    assert "raise gamma=0.24 or epochs, or lower the rate" in caplog.text
    assert "kept units" not in caplog.text
    caplog.clear()
    fit([ScalingFactors(gamma=5.0), pruning()], Foreign(residual))
    assert "30 of 30 were exactly 0; pruning removed 15 units, with factors up to 0" in caplog.text
    assert "above 0" not in caplog.text
    assert "15 kept units have factor 0 and compute nothing: lower gamma=5" in caplog.text


def test_the_criterion_without_its_callback_says_which_is_missing() -> None:
    net = plain()
    with pytest.raises(ValueError, match="needs the callback ScalingFactors, listed before Pruning"):
        Factor()(Context(net, prunable_weights(net), torch.Generator()))
    memory = {"group": torch.ones(3)}
    scores = Factor()(Context(net, prunable_weights(net), torch.Generator(), memory=memory))
    assert scores == memory
    assert scores is not memory


class Bare(Channels):
    """Units without an outlet."""

    @property
    def scaling_modules(self) -> dict[str, Tensor]:
        return {path: units for path, units in super().scaling_modules.items() if path != "body.3"}


def unaffine() -> nn.Sequential:
    net = residual()
    net[1] = nn.BatchNorm2d(8, affine=False)
    return net


class Tied(nn.Module):
    """Two layers with one weight; a norm follows the second, where the factor acts instead."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4)
        self.two.weight = self.one.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.one(x) + self.norm(self.two(x))).mean((2, 3)))


REFUSED: list[tuple[list[L.Callback], Callable[[], nn.Module], dict[str, Any], str]] = [
    ([ScalingFactors(0.1)], plain, {}, "beside one Pruning callback, there is none: add it"),
    (
        [ScalingFactors(0.1), pruning(), Pruning(Pruner(Norm(), Weight(), Global(), Cubic(0.5)))],
        plain,
        {},
        "there are 2",
    ),
    ([pruning(), ScalingFactors(0.1)], plain, {}, "Pruning comes before ScalingFactors.*list ScalingFactors first"),
    ([Shrink(), ScalingFactors(0.1), pruning()], plain, {}, "Shrink comes before ScalingFactors"),
    (
        [ScalingFactors(0.1), Pruning(Pruner(Norm(), Weight(), Global(), Cubic(0.5)))],
        plain,
        {},
        "not Weight: use prune/granularity=channels",
    ),
    (
        [ScalingFactors(0.1), pruning(schedule=Rounds(0.5, start=0.0))],
        plain,
        {},
        "before the first step.*start the schedule later",
    ),
    ([ScalingFactors(0.1), pruning(units=Bare())], plain, {}, r"body.3.weight have no layer whose output.*skip"),
    ([ScalingFactors(0.1), pruning()], unaffine, {}, r"body.1 \(BatchNorm2d\) has no weight.*affine=True"),
    ([ScalingFactors(0.1), pruning()], Tied, {}, "body.one shares a parameter with body.two"),
    ([ScalingFactors(0.1), pruning(), Rewind(0)], plain, {}, "Rewind restores weights.*lr_rewind"),
    (
        [ScalingFactors(0.1), pruning(), Rewind(0, parameters=False, control="reinit")],
        plain,
        {},
        "Rewind restores weights",
    ),
]


@pytest.mark.parametrize(("callbacks", "net", "options", "words"), REFUSED)
def test_what_does_not_go_together_is_refused_before_training(
    fit: Fit, callbacks: list[L.Callback], net: Callable[[], nn.Module], options: dict[str, Any], words: str
) -> None:
    module = Foreign(net)
    before = {name: p.clone() for name, p in module.named_parameters()}
    with pytest.raises(ValueError, match=words):
        fit(callbacks, module, **options)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
    assert hooks(module) == 0


class TwoOptimizers(Foreign):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(layer.parameters(), LR) for layer in (self.body[0], self.body[3])]


def test_several_optimizers_and_scaled_gradients_are_refused(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="ScalingFactors works with one optimizer, configure_optimizers returned 2"):
        fit([ScalingFactors(0.1), pruning()], TwoOptimizers())
    monkeypatch.setattr("lightning.pytorch.plugins.precision.Precision.scaler", object(), raising=False)
    with pytest.raises(ValueError, match="16-mixed scales gradients.*bf16-mixed"):
        fit([ScalingFactors(0.1), pruning()])


@pytest.mark.parametrize(("options", "words"), [
    ({"gamma": -1.0}, "gamma=-1.0: expected a number of at least 0"),
    ({"gamma": float("nan")}, "gamma=nan"),
    ({"gamma": 0.1, "momentum": 1.0}, r"momentum=1.0: expected a number in \[0, 1\)"),
    ({"gamma": 0.1, "lr": 0.0}, "lr=0.0: expected a number above 0"),
])  # fmt: skip
def test_impossible_values_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ScalingFactors(**options)
