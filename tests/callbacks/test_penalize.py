"""Penalties act until the last pruning, never at rate 0, and after a resume as before it."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import lightning as L
import pytest
import torch
from compose import job_from
from hydra.utils import instantiate
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins import MixedPrecision
from resumable import Resumable
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from prunelab.callbacks import Pruning
from prunelab.callbacks.penalize import Penalize
from prunelab.channels.blocks import Block
from prunelab.channels.penalties import GroupLasso, ScaleL1
from prunelab.channels.units import Filter
from prunelab.core.allocation import Global
from prunelab.core.granularity import Granularity
from prunelab.core.penalty import Penalty
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.criteria.bn_scale import BNScale
from prunelab.criteria.norm import Norm
from prunelab.job.method import Method
from prunelab.models.resnet import ResNet, projection

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]
EPOCHS, EPOCH = 4, 8  # steps of an epoch
PENALTIES = [
    ScaleL1(0.02), ScaleL1(0.3, proximal=True), GroupLasso(0.3), GroupLasso(0.3, "channels"), ScaleL1(start=0.5),
    GroupLasso(),
]  # fmt: skip


class Foreign(L.LightningModule):
    """Somebody's module, with a learning rate that changes at every step."""

    def __init__(self, gamma: float = 0.0, adam: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3),
        )  # fmt: skip
        self.gamma, self.adam = gamma, adam
        self.example_input_array = torch.zeros(1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        term = sum(self.body[i].weight.abs().sum() for i in (1, 4)) if self.gamma else 0
        return nn.functional.cross_entropy(self(batch[0]), batch[1]) + self.gamma * term

    def configure_optimizers(self) -> Any:
        norms = [p for name, p in self.named_parameters() if ".1." in name or ".4." in name]
        others = [p for p in self.parameters() if not any(p is n for n in norms)]
        groups = [{"params": others, "weight_decay": 0.01}, {"params": norms}]
        optimizer = torch.optim.AdamW(groups, 0.01) if self.adam else torch.optim.SGD(groups, 0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * EPOCH)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@dataclass(frozen=True)
class Spy(Penalty):
    """Changes nothing; keeps the learning rates that it was given after each step."""

    before: list[int] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    net: nn.Module | None = None

    def bind(self, net: nn.Module, granularity: Granularity) -> Self:
        assert isinstance(granularity, Filter)
        assert granularity.groups
        return type(self)(self.before, self.after, net)

    @property
    def params(self) -> Mapping[str, nn.Parameter]:
        assert self.net is not None
        return {"body.1.weight": self.net.get_parameter("body.1.weight")}

    def before_step(self) -> None:
        self.before.append(len(self.after))

    def after_step(self, rates: Mapping[str, float]) -> None:
        self.after.append(rates["body.1.weight"])

    def zeros(self) -> Tensor:
        return torch.tensor([True, False, False, False])


class Watch(L.Callback):
    """Keeps what a run looked like after each step; dies where it is told to."""

    def __init__(self, kill: int | None = None, path: Path | None = None) -> None:
        self.kill, self.path = kill, path
        self.rates: list[float] = []
        self.logged: list[float] = []
        self.zeros: list[Tensor] = []  # which filters of both layers are all 0: (14,)

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[1]["lr"])

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        convs = [layer for layer in module.body if isinstance(layer, nn.Conv2d)]
        self.zeros.append(torch.cat([(conv.weight.flatten(1) == 0).all(1) for conv in convs]))
        if trainer.global_step == self.kill:
            trainer.save_checkpoint(self.path)
            raise KeyError("killed")


class Kept(DummyLogger):
    """Keeps what is logged of the penalty, epoch by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.zero: list[float] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.zero += [value for name, value in metrics.items() if name == "penalty/zero"]


def loader() -> DataLoader:
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(64, 1, 8, 8, generator=g), torch.randint(0, 3, (64,), generator=g))
    return Resumable(data, 8)


def parts(penalty: Penalty, schedule: Schedule | None = None, criterion: Any = None) -> list[L.Callback]:
    schedule = schedule or Rounds(0.5, n=2, start=0.25)  # at steps 8 and 20 of 32
    return [Penalize(penalty), Pruning(Pruner(criterion or Norm(2), Filter(), Global(), schedule))]


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., tuple[Watch, L.LightningModule]]:
    def run(callbacks: list[L.Callback], module: L.LightningModule | None = None, kill=None, ckpt=None, **options):
        watch, module = Watch(kill, tmp_path / "kill.ckpt"), module or Foreign()
        usual = {"max_epochs": EPOCHS, "logger": Kept(), "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(
            callbacks=[*callbacks, watch], accelerator="cpu", enable_checkpointing=False, **(usual | options)
        )
        try:
            trainer.fit(module, loader(), ckpt_path=ckpt)
        except KeyError:
            assert kill is not None
        assert not trainer.optimizers[0]._optimizer_step_post_hooks
        watch.logged = trainer.logger.zero
        return watch, module

    return run


class Scales(L.Callback):
    """The norms' scales before the first step; stands behind Penalize."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.seen = [module.body[i].weight.detach().clone() for i in (1, 4)]


def test_slimming_starts_at_a_half_and_takes_gamma_from_the_length_of_the_training(fit) -> None:
    """5.9 over the sum of lr / (1 - momentum), lr half a cosine of 32 steps from 0.1, of which 16 precede pruning."""
    callbacks = parts(ScaleL1(start=0.5), Rounds(0.5, start=0.5))
    scales = Scales()
    fit([*callbacks, scales])
    assert all((seen == 0.5).all() for seen in scales.seen)
    total = sum(0.05 * (1 + math.cos(math.pi * step / 32)) for step in range(16))
    gamma = 5.9 / (total / 0.1)
    _, derived = fit(parts(ScaleL1(start=0.5), Rounds(0.5, start=0.5)))
    _, given = fit(parts(ScaleL1(gamma, start=0.5), Rounds(0.5, start=0.5)))
    for a, b in zip(derived.parameters(), given.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_scales_that_were_trained_before_are_not_set_back(fit) -> None:
    module = Foreign()
    module.body[4].weight.data[0] = 0.9
    scales = Scales()
    fit([*parts(ScaleL1(start=0.5)), scales], module)
    assert (scales.seen[0] == 0.5).all()
    assert scales.seen[1].tolist() == [pytest.approx(0.9), 1, 1, 1, 1, 1]


def test_a_travel_that_no_scale_survives_is_told_and_one_that_ends_before_0_is_a_warning(fit, caplog) -> None:
    caplog.set_level(logging.INFO)
    for penalty in (ScaleL1(start=0.5), ScaleL1(travel=0.4, start=0.5), ScaleL1(1e-4, start=0.5)):
        fit(parts(penalty, Rounds(0.5, start=0.5)))
    told = [m for m in caplog.messages if m.startswith("penalty: gamma=")]
    assert "moves what nothing else moves by 5.9 in 16 steps; the nearest to 0 starts at 0.5" in told[0]
    warned = [m for m in caplog.messages if m.startswith("the penalty can bring nothing to 0")]
    assert "moves by 0.4, and all start at 0.5" in warned[0]
    assert "gamma=0.0001 moves by 0.0013" in warned[1]
    assert len(told) == 3
    assert len(warned) == 2


def test_adam_moves_by_the_learning_rate_so_gamma_is_the_papers(fit, caplog) -> None:
    caplog.set_level(logging.INFO)
    fit(parts(ScaleL1(start=0.5), Rounds(0.5, start=0.5)), Foreign(adam=True))
    assert any(m.startswith("penalty: gamma=0.0001 moves what nothing else moves by 0.13") for m in caplog.messages)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(("schedule", "last"), [
    (Rounds(0.5, start=0.5), 16), (Rounds(0.5, n=2, start=0.25), 20), (Cubic(0.5, end=0.5, every="1it"), 16),
])  # fmt: skip
def test_it_pulls_at_every_step_until_the_last_pruning_and_at_none_after(fit, schedule: Schedule, last: int) -> None:
    spy = Spy()
    watch, _ = fit(parts(spy, schedule))
    assert spy.before == list(range(last))
    assert spy.after == watch.rates[:last]  # the rate of the step, not the one that is set after it
    assert len(set(spy.after)) == last
    assert watch.logged == [0.25] * (last // EPOCH)


def test_without_pruning_it_pulls_for_the_whole_training_at_units_of_its_own(fit) -> None:
    spy = Spy()
    watch, _ = fit([Penalize(spy, Filter())])
    assert spy.after == watch.rates
    assert watch.logged == [0.25] * EPOCHS


def test_accumulated_batches_are_penalised_once(fit) -> None:
    spy = Spy()
    fit([Penalize(spy, Filter())], accumulate_grad_batches=4)
    assert len(spy.before) == len(spy.after) == EPOCHS * EPOCH // 4


@pytest.mark.parametrize("penalty", PENALTIES)
def test_at_rate_zero_the_run_ends_in_the_bits_of_dense_training(fit, penalty: Penalty) -> None:
    _, dense = fit([])
    watch, module = fit(parts(penalty, Rounds(0.0, start=0.5)))
    assert same(dense, module)
    assert watch.logged == []


@pytest.mark.parametrize(
    ("penalty", "kills"), [*zip(PENALTIES, [(3, 20), (11,), (8, 27), (20,), (3,), (11,)], strict=True)]
)
def test_killed_before_between_and_after_prunings_it_goes_on_to_the_same_bits(
    fit, penalty: Penalty, kills: tuple[int, ...], tmp_path: Path
) -> None:
    _, whole = fit(parts(penalty))
    for kill in kills:
        fit(parts(penalty), kill=kill)
        _, resumed = fit(parts(penalty), ckpt=tmp_path / "kill.ckpt")
        assert same(whole, resumed), kill


@pytest.mark.parametrize("penalty", PENALTIES)
def test_callbacks_used_for_two_fits_do_the_same_twice(fit, penalty: Penalty) -> None:
    callbacks = parts(penalty)
    _, first = fit(callbacks)
    _, second = fit(callbacks)
    _, plain = fit([callbacks[1]])
    assert same(first, second)
    assert not same(first, plain)


@pytest.mark.parametrize("adam", [False, True])
def test_the_sub_gradient_trains_as_the_term_in_the_loss_does_clipping_included(fit, adam: bool) -> None:
    clip = {"gradient_clip_val": 0.2}
    _, plain = fit([], Foreign(adam=adam), **clip)
    _, term = fit([], Foreign(0.05, adam), **clip)
    _, penalised = fit([Penalize(ScaleL1(0.05), Filter())], Foreign(adam=adam), **clip)
    for (name, a), b, c in zip(term.named_parameters(), penalised.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6), name
        assert not torch.allclose(a, c, rtol=1e-4, atol=1e-6), name


def test_the_proximal_step_is_that_of_a_loop_beside_the_optimizer(fit) -> None:
    """The same training written out: SGD, then each scale moves by lr * gamma towards zero and stops there."""
    _, module = fit([Penalize(ScaleL1(0.3, proximal=True), Filter())], max_epochs=1)
    by_hand = Foreign()
    made = by_hand.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    for i, batch in enumerate(loader()):
        optimizer.zero_grad()
        by_hand.training_step(batch, i).backward()
        optimizer.step()
        with torch.no_grad():
            for norm in (by_hand.body[1], by_hand.body[4]):
                t = 0.3 * optimizer.param_groups[1]["lr"]
                for c, s in enumerate(norm.weight.tolist()):
                    norm.weight[c] = 0.0 if abs(s) <= t else s - t if s > 0 else s + t
        schedule.step()
    for a, b in zip(module.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_zero_groups_are_what_pruning_takes_first_and_both_are_told(fit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    callbacks = parts(GroupLasso(0.22), Rounds(0.5, start="1ep"))
    watch, _ = fit(callbacks)
    zero, keep = watch.zeros[7], torch.cat(list(callbacks[1].pruner.keep.values()))
    assert 0 < zero.sum() < 7
    assert not (zero & keep).any()
    assert torch.equal(watch.zeros[-1], ~keep)
    (_, message) = [r.getMessage() for r in caplog.records if r.name.endswith("penalize")]
    n = int(zero.sum())
    assert message == f"penalty finished: {n} of 14 groups reached exactly 0, pruning removed 7 of 14 units"
    assert watch.logged == [pytest.approx(n / 14)]


def test_a_penalty_without_effect_hints_at_gamma(fit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fit(parts(GroupLasso(1e-9), Rounds(0.5, start="1ep")))
    (_, warning, message) = [r.getMessage() for r in caplog.records if r.name.endswith("penalize")]
    assert warning.startswith("the penalty can bring nothing to 0: gamma=1e-09 moves by 7.67e-10, and all start at 0.1")
    assert message.startswith("penalty finished: 0 of 14 groups reached exactly 0, ")
    assert message.endswith("; gamma may be too small")


def test_a_layer_that_the_penalty_emptied_is_told_by_name(fit, caplog: pytest.LogCaptureFixture) -> None:
    watch, _ = fit(parts(GroupLasso(0.25), Rounds(0.5, start=0.5)))
    assert watch.zeros[15][8:].all()
    (message,) = [r.getMessage() for r in caplog.records if r.name.endswith("penalize")]
    assert message == "all 0 though not all is pruned: body.3.weight, body.4.weight; lower gamma"


def test_blocks_that_are_pruned_are_not_told_as_emptied(fit, caplog: pytest.LogCaptureFixture) -> None:
    module = Foreign()
    module.body = nn.Sequential(nn.Conv2d(1, 3, 1), ResNet((4,), 2, projection, 3))
    schedule = Rounds(0.5, start=0.5)
    pruning = Pruning(Pruner(Norm(2), Block(), Global(), schedule))
    fit([Penalize(GroupLasso(1.0, "depth")), pruning], module)
    keep = pruning.pruner.keep["blocks"].tolist()
    left, gone = keep.index(True), keep.index(False)
    (message,) = [r.getMessage() for r in caplog.records if r.name.endswith("penalize")]
    assert f"layer1.{left}.conv1.weight" in message
    assert f"layer1.{gone}." not in message


def test_global_slimming_removes_the_scales_that_the_penalty_made_small(fit) -> None:
    callbacks = parts(ScaleL1(0.3, proximal=True), Rounds(0.5, start=0.5), BNScale())
    _, module = fit(callbacks)
    assert sum(int((~keep).sum()) for keep in callbacks[1].pruner.keep.values()) == 7
    for name, keep in callbacks[1].pruner.masks.items():
        assert not module.get_parameter(name)[~keep].any()


def test_hooks_are_gone_after_an_exception_of_anyone(fit) -> None:
    class Fails(L.Callback):
        def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            assert trainer.optimizers[0]._optimizer_step_post_hooks
            raise KeyError("somebody else's")

    fit([*parts(GroupLasso(0.3)), Fails()], kill=0)  # the fixture looks for hooks


def test_what_does_not_fit_is_refused_before_training(fit) -> None:
    penalize, pruning = parts(ScaleL1(0.1))
    with pytest.raises(ValueError, match="Pruning comes before Penalize, .*: list Penalize first"):
        fit([pruning, penalize])
    _, other = parts(ScaleL1(0.1))
    other.pruner.skip = ("body.0.*",)
    with pytest.raises(ValueError, match="beside one Pruning callback"):
        fit([penalize, pruning, other])
    with pytest.raises(ValueError, match="without a Pruning callback: give it the units to pull at, granularity="):
        fit([penalize])
    with pytest.raises(ValueError, match="pruned to rate=0.5 before the first step"):
        fit(parts(ScaleL1(0.1), Rounds(0.5, start=0.0)))
    partly = Foreign()
    partly.configure_optimizers = lambda: torch.optim.SGD(partly.body[7].parameters(), 0.1)
    with pytest.raises(ValueError, match=r"would change what is not trained: body\.1\.weight, body\.4\.weight; train"):
        fit(parts(ScaleL1(0.1)), partly)


def test_a_frozen_norm_is_not_pulled(fit) -> None:
    module = Foreign()
    module.body[1].weight.requires_grad_(False)
    before = [module.body[i].weight.clone() for i in (1, 4)]
    fit(parts(ScaleL1(0.1)), module)
    assert torch.equal(module.body[1].weight, before[0])
    assert not torch.equal(module.body[4].weight, before[1])


@pytest.mark.parametrize(("method", "penalty"), [("slimming", ScaleL1), ("group_lasso", GroupLasso)])
def test_methods_penalise_before_they_prune_also_weights_from_a_file(
    method: str, penalty: type, composed, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    weights.touch()
    cfg = composed(f"prune={method}", "rate=0.5", f"pretrained={weights}")
    callbacks = Method.of(job_from(cfg)).callbacks
    kinds = [type(callback) for callback in callbacks]
    assert kinds.index(Penalize) < kinds.index(Pruning)
    assert isinstance(callbacks[kinds.index(Penalize)].penalty, penalty)
    (schedule,) = [c.pruner.schedule for c in callbacks if isinstance(c, Pruning)]
    assert schedule.ends(EPOCH) == [3 * EPOCH, 6 * EPOCH]  # 3 epochs with the penalty, 3 to retrain


@pytest.mark.parametrize("option", ["scale_l1", "group_lasso"])
def test_every_penalty_on_the_menu_fits_every_method_that_penalises(option: str, composed) -> None:
    for method in ("slimming", "group_lasso"):
        cfg = composed(f"prune={method}", f"prune/penalty={option}", "rate=0.5")
        assert isinstance(instantiate(cfg.prune.penalize).penalty, ScaleL1 if option == "scale_l1" else GroupLasso)


def test_gradients_that_a_fused_optimizer_hides_are_refused(fit) -> None:
    class Fused(Foreign):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1, fused=True)

    float16 = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match=r"a fused SGD under 16-mixed hides gradients from a penalty"):
        fit([Penalize(ScaleL1(0.02), Filter())], Fused(), plugins=[float16])
