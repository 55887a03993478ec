"""The Pruning callback in a foreign Lightning project."""

from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from resumable import Resumable
from sam import Sam
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from prunelab.callbacks import Pruning, Shrink
from prunelab.channels import units as structured
from prunelab.channels.units import Filter
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.network.optimizers import with_held
from prunelab.core.pruner import Pruner
from prunelab.core.regrow import Regrow
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.core.time import Progress
from prunelab.criteria.gradient import Gradient
from prunelab.criteria.movement import Movement
from prunelab.criteria.norm import Norm
from prunelab.criteria.random import Random
from prunelab.criteria.taylor import Taylor

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]


class Foreign(L.LightningModule):
    """Somebody's module: its own network, loss and optimizer."""

    def __init__(self, optimizer: Callable = lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
        self.make = optimizer
        self.example_input_array = torch.zeros(1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return self.make(self.parameters())


class Watch(L.Callback):
    """Looks at every moment at which anyone can look, and keeps the masks it saw."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruner = pruning.pruner
        self.looks = 0

    def look(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        states = [optimizer.state for optimizer in with_held(trainer.optimizers[0])]
        for name, mask in self.pruner.masks.items():
            param = module.get_parameter(name)
            assert not param[~mask].any(), name
            for state in [value for of in states for value in of.get(param, {}).values()]:
                if isinstance(state, Tensor) and state.shape == mask.shape:
                    assert not state[~mask].any(), name
            self.looks += 1

    on_train_batch_end = on_validation_start = on_validation_end = on_train_epoch_end = look

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict) -> None:
        self.look(trainer, module)


def loader(n: int = 64, batch: int = 8) -> DataLoader:
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(n, 1, 8, 8, generator=g), torch.randint(0, 3, (n,), generator=g))
    return Resumable(data, batch)


def pruning(rate: float = 0.8, granularity=None, schedule: Schedule | None = None) -> Pruning:
    schedule = schedule or Cubic(rate=rate, end=0.5, every="1it")
    return Pruning(Pruner(Norm(), granularity or Weight(), Uniform(), schedule))


@pytest.fixture
def fit(tmp_path: Path) -> Iterator[Callable]:
    def run(
        callbacks: list[L.Callback], module: L.LightningModule | None = None, ckpt=None, **trainer
    ) -> L.LightningModule:
        module = module or Foreign()
        options = {
            "max_epochs": 4,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "default_root_dir": tmp_path,
        }
        L.Trainer(callbacks=callbacks, **(options | trainer)).fit(module, loader(), loader(16), ckpt_path=ckpt)
        return module

    return run


@pytest.mark.parametrize("granularity", [Weight(), Filter()])
@pytest.mark.parametrize(
    "optimizer", [None, torch.optim.AdamW, Sam, lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5)]
)
@pytest.mark.parametrize("trainer", [{}, {"accumulate_grad_batches": 3}, {"gradient_clip_val": 0.1}])
def test_pruned_weights_and_their_state_are_zero_at_every_look(fit, granularity, optimizer, trainer) -> None:
    callback = pruning(granularity=granularity)
    watch = Watch(callback)
    module = fit([callback, watch], Foreign(optimizer) if optimizer else Foreign(), **trainer)
    assert watch.looks > 20
    for name, (removed, units) in callback.pruner.unit_counts().items():
        assert removed == round(0.8 * units), name
    if isinstance(granularity, Weight):
        assert module.body[4].weight.eq(0).sum() == round(0.8 * 864)
    else:
        assert module.body[1].bias.eq(0).sum() == module.body[1].weight.eq(0).sum() == round(0.8 * 8)


def test_a_module_that_disturbs_gradients_after_the_callback_revives_nothing(fit) -> None:
    class Noisy(Foreign):
        def on_before_optimizer_step(self, optimizer) -> None:  # Lightning calls it after the callbacks' own
            for p in self.parameters():
                p.grad.add_(1.0)

    callback = pruning()
    watch = Watch(callback)
    fit([callback, watch], Noisy())
    assert watch.looks > 20


def test_masks_that_no_criterion_could_find_again_come_back_from_the_checkpoint(fit, tmp_path: Path) -> None:
    def random() -> Pruning:
        return Pruning(Pruner(Random(), Weight(), Uniform(), Cubic(rate=0.8, end=0.5, every="1it")))

    class Kill(L.Callback):
        def on_train_batch_end(self, trainer, module, *_: object) -> None:
            if trainer.global_step == 11:
                trainer.save_checkpoint(tmp_path / "kill.ckpt")
                raise KeyError("killed")

    whole = fit([random()])
    with pytest.raises(KeyError, match="killed"):
        fit([random(), Kill()])
    resumed = fit([random()], ckpt=tmp_path / "kill.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_rate_zero_trains_to_the_same_bits_as_no_callback(fit) -> None:
    plain, with_callback = fit([]), fit([pruning(rate=0.0)])
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), with_callback.state_dict().values(), strict=True)
    )


def test_clipping_by_norm_counts_the_living_weights_alone(fit) -> None:
    """A pruned network must train as the small network that it stands for."""
    norms = []

    class Look(L.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer) -> None:
            masks = callback.pruner.masks
            living = [p.grad * masks.get(n, 1) for n, p in module.named_parameters() if p.grad is not None]
            if living:
                norms.append(torch.stack([g.norm() for g in living]).norm().item())

    callback = pruning(schedule=Rounds(rate=0.9, start=0.0))
    fit([callback, Look()], gradient_clip_val=1e-3)
    assert norms
    assert all(norm == pytest.approx(1e-3, rel=1e-2) for norm in norms)


def test_validation_after_an_epoch_sees_the_masks_that_were_trained_in_it(fit) -> None:
    """One-shot at the boundary of epochs 2 and 3: epoch 2 is validated dense, pruning opens epoch 3."""
    rates_seen = []

    class Look(L.Callback):
        def on_validation_end(self, trainer, module) -> None:
            rates_seen.append(callback.pruner.rate)

    callback = pruning(schedule=Rounds(rate=0.5, start="2ep"))
    fit([callback, Look()], num_sanity_val_steps=0)
    assert rates_seen == [0.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize("granularity", [Weight(), Filter()])
@pytest.mark.parametrize("at", [3, 8, 13])
def test_a_run_killed_inside_the_ramp_resumes_to_the_same_bits(fit, tmp_path: Path, granularity, at: int) -> None:
    whole = fit([pruning(granularity=granularity)])

    class Kill(L.Callback):
        def on_train_batch_end(self, trainer, module, *_: object) -> None:
            if trainer.global_step == at:
                trainer.save_checkpoint(tmp_path / "kill.ckpt")
                raise KeyError("killed")

    with pytest.raises(KeyError, match="killed"):
        fit([pruning(granularity=granularity), Kill()])
    resumed = pruning(granularity=granularity)
    with_resume = fit([resumed], ckpt=tmp_path / "kill.ckpt")
    assert resumed.pruner.rate == 0.8
    for (name, a), b in zip(whole.state_dict().items(), with_resume.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_is_an_ordinary_state_dict_with_zeros_in_it(fit, tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    saver = ModelCheckpoint(tmp_path, "last")
    fit([pruning(), saver], enable_checkpointing=True)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    module = Foreign()
    module.load_state_dict(saved["state_dict"])  # strict: no extra and no missing name
    assert module.body[0].weight.eq(0).sum() == round(0.8 * 72)


def test_a_callback_used_for_two_fits_starts_afresh_and_leaves_no_hook(fit) -> None:
    callback = pruning()
    first = fit([callback])
    optimizers = []

    class Keep(L.Callback):
        def on_train_start(self, trainer, module) -> None:
            optimizers.append(trainer.optimizers[0])

    second = fit([callback, Keep()])
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not optimizers[0]._optimizer_step_post_hooks


class FirstMasks(L.Callback):
    """The masks in the first step of a fit."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruner = pruning.pruner

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx: int) -> None:
        if not hasattr(self, "masks"):
            self.masks = self.pruner.masks


def more_epochs(trainer: L.Trainer) -> L.Trainer:
    trainer.fit_loop.max_epochs += 4
    return trainer


def another(trainer: L.Trainer) -> L.Trainer:
    return L.Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip


@pytest.mark.parametrize("again", [another, more_epochs])
@pytest.mark.parametrize("granularity", [Weight(), Filter()])
def test_another_fit_of_the_same_network_goes_on_with_its_masks(fit, granularity, again, caplog) -> None:
    schedule, module = Cubic(rate=0.8, end=0.5, every="1it"), Foreign()
    callback = Pruning(Pruner(Random(), granularity, Uniform(), schedule))  # no criterion could find these masks again
    trainer = fit([callback], module).trainer
    masks, watch, first = callback.pruner.masks, Watch(callback), FirstMasks(callback)
    trainer = again(trainer)
    trainer.callbacks = [callback, watch, first]
    with caplog.at_level("INFO"):
        trainer.fit(module, loader(), loader(16))
    for after in (first.masks, callback.pruner.masks):
        assert all(torch.equal(mask, after[name]) for name, mask in masks.items())
    assert watch.looks > 20
    assert "its masks go on, at rate 0.8" in caplog.text


def test_regrowth_goes_on_from_its_last_mask(fit) -> None:
    regrow = Regrow(drop=Norm(), grow=Random(), every="5it", fraction=0.3, until=0.9)
    callback = Pruning(Pruner(Random(), Weight(), Uniform(), Rounds(rate=0.8, start=0.0), regrow=regrow))
    module, first = Foreign(), FirstMasks(callback)
    fit([callback], module)
    last = callback.pruner.masks
    fit([callback, Watch(callback), first], module)
    assert all(torch.equal(mask, first.masks[name]) for name, mask in last.items())
    assert not torch.equal(last["body.4.weight"], callback.pruner.masks["body.4.weight"])  # it exchanges again


@pytest.mark.parametrize(("every", "warned"), [("5it", True), ("1it", False)])
def test_too_few_exchanges_are_said(fit, every: str, warned: bool, caplog) -> None:
    """Of 32 steps."""
    regrow = Regrow(drop=Norm(), grow=Random(), every=every, until=0.9)
    fit([Pruning(Pruner(Random(), Weight(), Uniform(), Rounds(rate=0.8, start=0.0), regrow=regrow))], Foreign())
    assert ("only 5 exchanges of weights: raise epochs, or lower regrow.every" in caplog.text) == warned


def test_a_network_whose_weights_were_put_back_starts_afresh(fit) -> None:
    callback, module = pruning(), Foreign()
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first = {name: t.clone() for name, t in fit([callback], module).state_dict().items()}
    module.load_state_dict(start)
    again = fit([callback], module).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


def test_a_fit_that_fails_leaves_no_hook_either(fit) -> None:
    kept = []

    class Fail(L.Callback):
        def on_train_batch_end(self, trainer, *_: object) -> None:
            kept.append(trainer.optimizers[0])
            raise KeyError("failed")

    with pytest.raises(KeyError):
        fit([pruning(), Fail()])
    assert not kept[0]._optimizer_step_post_hooks


class Manual(Foreign):
    """Steps `often` times in every batch that `every` divides."""

    def __init__(self, often: int = 1, every: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.often, self.every = often, every

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        for _ in range(self.often if batch_idx % self.every == 0 else 0):
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()


class ManualSam(Foreign):
    """Never calls `step` of its optimizer, which steps the one that it holds."""

    def __init__(self) -> None:
        super().__init__(Sam)
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        for step in (optimizer.first_step, optimizer.second_step):
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            step()


@pytest.mark.parametrize("granularity", [Weight(), Filter()])
def test_an_optimizer_that_holds_the_one_that_steps_revives_nothing(fit, granularity) -> None:
    callback = pruning(granularity=granularity)
    watch = Watch(callback)
    fit([callback, Shrink(), watch] if isinstance(granularity, Filter) else [callback, watch], ManualSam())
    assert watch.looks > 20
    for name, (removed, units) in callback.pruner.unit_counts().items():
        assert removed == round(0.8 * units), name


class Rates(L.Callback):
    """The rate in every batch."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruner = pruning.pruner
        self.seen: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.seen.append(self.pruner.rate)


def test_manual_optimization_with_one_optimizer_is_pruned_as_well(fit) -> None:
    callback = pruning()
    watch = Watch(callback)
    module = fit([callback, watch], Manual())
    assert watch.looks > 20
    assert module.body[4].weight.eq(0).sum() == round(0.8 * 864)


@pytest.mark.parametrize(("often", "every"), [(1, 1), (2, 1), (1, 2)])
def test_however_often_the_optimizer_steps_in_a_batch_the_rate_is_met_in_the_same_one(
    fit, tmp_path: Path, often: int, every: int
) -> None:
    automatic, manual, resumed = pruning(), pruning(), pruning()
    expected, rates, rest = Rates(automatic), Rates(manual), Rates(resumed)

    class Save(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
            if len(rates.seen) == 12:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    fit([automatic, expected])
    fit([manual, rates, Save()], Manual(often, every))
    assert expected.seen.index(0.8) == 16  # end=0.5 of 32 batches
    assert rates.seen == expected.seen
    fit([resumed, rest], Manual(often, every), ckpt=tmp_path / "middle.ckpt")
    assert rest.seen == expected.seen[12:]


def test_a_manual_run_that_ends_at_a_number_of_steps_is_counted_in_steps(fit) -> None:
    callback = pruning()
    rates = Rates(callback)
    fit([callback, rates], Manual(often=2), max_steps=32, max_epochs=-1)
    assert (len(rates.seen), rates.seen.index(0.8)) == (16, 8)


LATE: list[Callable[[], Pruning]] = [
    pruning,
    lambda: pruning(schedule=Rounds(0.8, start="9ep")),
    lambda: pruning(schedule=Rounds(0.8, n=3, start="500it", training="160ep", rewind="10it")),
    lambda: pruning(schedule=Cubic(0.8, start="1ep", end="80ep", every="100it")),
]


@pytest.mark.parametrize("batches", [True, 3])
@pytest.mark.parametrize("late", LATE)
def test_a_fast_dev_run_prunes_in_its_last_batch_whatever_the_schedule(fit, late, batches: int) -> None:
    callback = late()
    rates = Rates(callback)
    module = fit([callback, rates], max_epochs=200, fast_dev_run=batches)
    assert rates.seen == [0.0] * (int(batches) - 1) + [0.8]
    assert module.body[4].weight.eq(0).sum() == round(0.8 * 864)


@pytest.mark.parametrize(("batches", "rate"), [(True, 0.0), (2, 0.5)])
def test_a_fast_dev_run_prunes_by_what_it_has_watched_or_not_at_all(fit, batches: int, rate: float) -> None:
    callback = Pruning(Pruner(Movement(), Weight(), Uniform(), Rounds(rate=0.5, start="9ep")))
    fit([callback], fast_dev_run=batches)
    assert callback.pruner.rate == rate


def float16() -> list[MixedPrecision]:
    return [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0))]


def test_of_steps_that_overflow_in_float16_a_criterion_that_watches_training_keeps_nothing(fit) -> None:
    class Overflowing(Foreign):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * torch.inf if batch_idx == 3 else loss

    class Sum(L.Callback):
        """-w * dL/dw of the head, over the steps whose gradients are finite."""

        skipped, total = 0, 0.0

        def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
            if all(p.grad.isfinite().all() for p in module.parameters()):
                self.total = self.total - module.body[4].weight.detach() * module.body[4].weight.grad
            else:
                self.skipped += 1

    callback = Pruning(Pruner(Movement(), Weight(), Uniform(), Rounds(rate=0.5, start=0.9)))
    watch, expected = Watch(callback), Sum()
    fit([expected, callback, watch], Overflowing(), plugins=float16())
    assert expected.skipped == 4  # one in each epoch
    alive = callback.pruner.masks["body.4.weight"]
    memory = callback.pruner.state_dict()["memory"]["body.4.weight"]
    torch.testing.assert_close(memory[alive], expected.total[alive])
    assert watch.looks > 8


def test_gradients_that_a_fused_optimizer_hides_are_refused(fit) -> None:
    fused = Foreign(lambda p: torch.optim.SGD(p, 0.1, fused=True))
    watching = Pruning(Pruner(Movement(), Weight(), Uniform(), Rounds(rate=0.5, start=0.9)))
    with pytest.raises(ValueError, match=r"a fused SGD under 16-mixed hides gradients.*use fused=False"):
        fit([watching], fused, plugins=float16())
    fit([pruning()], fused, plugins=float16())
    fit([watching], fused)


@pytest.mark.parametrize("stop", [{"max_steps": 9, "max_epochs": -1}, {"max_epochs": 2}])
def test_a_run_by_steps_or_by_epochs_meets_its_rate(fit, stop) -> None:
    callback = pruning()
    fit([callback], **stop)
    assert callback.pruner.rate == 0.8


def test_a_training_that_stops_short_of_its_rate_says_so(fit, caplog) -> None:
    class Stop(L.Callback):
        def on_train_batch_end(self, trainer, *_: object) -> None:
            trainer.should_stop = trainer.global_step == 5

    fit([pruning(), Stop()])
    assert "training ended after 5 of 32 steps, pruned to" in caplog.text


def test_a_stream_of_unknown_length_is_pruned_when_steps_are_given_and_refused_otherwise(fit) -> None:
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(loader(64, 1).dataset)

    class Streaming(Foreign):
        validation_step = None

        def train_dataloader(self):
            return DataLoader(Stream(), 8)

    def run(callback: Pruning, **stop) -> None:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(callbacks=[callback], accelerator="cpu", enable_checkpointing=False, **quiet, **stop)
        trainer.fit(Streaming())

    callback = pruning()
    run(callback, max_steps=20)
    assert callback.pruner.rate == 0.8
    with pytest.raises(ValueError, match="its loader has no length, set limit_train_batches or max_steps"):
        run(pruning(), max_epochs=2)
    run(callback := pruning(), max_epochs=2, limit_train_batches=6)
    assert callback.pruner.rate == 0.8
    with pytest.raises(ValueError, match="is: set max_epochs or max_steps"):
        run(pruning(), max_epochs=-1)


def test_a_net_built_in_configure_model_is_found(fit) -> None:
    class Late(Foreign):
        def __init__(self) -> None:
            super().__init__()
            self.late = [self.body]  # in a list: out of Lightning's sight
            self.body = nn.Identity()

        def configure_model(self) -> None:
            self.body = self.late[0]

    callback = pruning()
    assert fit([callback], Late()).body[4].weight.eq(0).sum() == round(0.8 * 864)


def test_a_checkpoint_with_masks_can_be_tested_with_the_callback_there(fit, tmp_path: Path) -> None:
    class Tested(Foreign):
        def test_step(self, batch, batch_idx) -> None:
            self.validation_step(batch, batch_idx)

    class Save(L.Callback):
        def on_train_end(self, trainer, module) -> None:
            trainer.save_checkpoint(tmp_path / "end.ckpt")

    fit([pruning(), Save()], Tested())
    trainer = L.Trainer(callbacks=[pruning()], accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.test(Tested(), loader(), ckpt_path=tmp_path / "end.ckpt", verbose=False)


@pytest.mark.parametrize(("criterion", "regrow"), [
    (Taylor(batches=9), None), (Norm(), Regrow(Norm(), Gradient(batches=9), every="2it")),
])  # fmt: skip
def test_batches_that_scoring_will_lack_are_missed_before_the_first_step(fit, criterion, regrow) -> None:
    schedule = Rounds(0.5, start=0 if regrow else 0.75)
    callback = Pruning(Pruner(criterion, Weight(), Uniform(), schedule, regrow=regrow))
    steps = Rates(callback)
    with pytest.raises(ValueError, match="scoring asks for 9 batches, the training data have 8: lower"):
        fit([callback, steps])
    assert steps.seen == []


def test_several_loaders_are_refused_before_the_first_step_where_batches_are_scored(fit) -> None:
    class Two(Foreign):
        def training_step(self, batch: dict, batch_idx: int) -> Tensor:
            return super().training_step(batch["a"], batch_idx)

        def train_dataloader(self) -> dict:
            return {"a": loader(), "b": loader()}

    def run(criterion) -> Rates:
        callback = Pruning(Pruner(criterion, Weight(), Uniform(), Rounds(0.5, start=0.75)))
        rates = Rates(callback)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer = L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[callback, rates], **quiet)
        if criterion.batches:
            with pytest.raises(ValueError, match=r"scoring takes one training loader: .*scoring_batches"):
                trainer.fit(Two(), None, loader())
        else:
            trainer.fit(Two(), None, loader())
        return rates

    assert run(Taylor()).seen == []
    assert run(Norm()).seen[-1] == 0.5


def test_a_frozen_teacher_is_not_pruned_and_named_once(fit, caplog) -> None:
    class Student(Foreign):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = nn.Linear(64, 3).requires_grad_(False)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return nn.functional.mse_loss(self(batch[0]), self.teacher(batch[0].flatten(1)))

    module = fit([pruning(0.8)], Student())
    assert module.teacher.weight.all()
    assert module.body[4].weight.eq(0).sum() == round(0.8 * 864)
    assert [m for m in caplog.messages if "teacher" in m] == [
        f"left dense, {100 * 192 / 1157:.3g} % of all parameters, frozen: teacher.weight"
    ]


def test_a_layer_that_is_thawed_later_stays_dense_and_one_that_is_frozen_later_keeps_its_zeros(fit) -> None:
    class Swap(L.Callback):
        def on_train_epoch_start(self, trainer, module) -> None:
            module.body[0].requires_grad_(trainer.current_epoch >= 1)
            module.body[4].requires_grad_(trainer.current_epoch < 1)

    module = Foreign(lambda params: torch.optim.SGD(params, 0.1))
    module.body[0].requires_grad_(False)
    before = module.body[0].weight.clone()
    fit([pruning(0.8), Swap()], module)
    assert not torch.equal(module.body[0].weight, before)
    assert module.body[0].weight.all()
    assert module.body[4].weight.eq(0).sum() == round(0.8 * 864)


@pytest.mark.parametrize("by_checkpoint", [True, False])
def test_what_is_thawed_between_two_fits_is_pruned_in_the_second(fit, caplog, tmp_path, by_checkpoint: bool) -> None:
    """Beside the masks of the first, although its own rates begin low."""

    class Save(L.Callback):
        def on_train_end(self, trainer, module) -> None:
            trainer.save_checkpoint(tmp_path / "end.ckpt")

    callback, module = pruning(0.8), Foreign(lambda params: torch.optim.SGD(params, 0.1))
    module.body[0].requires_grad_(False)
    fit([callback, Save()], module)
    gone = module.body[4].weight.eq(0)
    module.body[0].requires_grad_(True)
    if by_checkpoint:
        fit([pruning(0.8)], module, tmp_path / "end.ckpt", max_epochs=8)
    else:
        fit([callback], module)
    assert module.body[0].weight.eq(0).sum() == round(0.8 * 72)
    assert torch.equal(module.body[4].weight.eq(0), gone)
    assert "trained now, and without a mask so far: body.0.weight; pruned from now on" in caplog.text


def test_what_is_frozen_after_a_check_is_analysed_anew_and_what_is_not_once(fit, monkeypatch) -> None:
    traced, channel_graph = [], structured.channel_graph
    monkeypatch.setattr(structured, "channel_graph", lambda *args: traced.append(args) or channel_graph(*args))
    for frozen, times in ((False, 1), (True, 2)):
        traced.clear()
        callback, net = pruning(0.5, Filter()), Foreign()
        callback.check(net, net.example_input_array, Progress(0, 24, 8))
        if frozen:
            [*net.parameters()][-1].requires_grad_(False)  # a bias of the outputs
        fit([callback], net)
        assert len(traced) == times


def test_two_callbacks_prune_two_parts_of_a_net(fit) -> None:
    def part(rate: float, skip: str) -> Pruning:
        return Pruning(Pruner(Norm(), Weight(), Uniform(), Cubic(rate=rate), skip=[skip]))

    module = fit([part(0.5, "body.4.*"), part(0.9, "body.0.*")])
    assert module.body[0].weight.eq(0).sum() == round(0.5 * 72)
    assert module.body[4].weight.eq(0).sum() == round(0.9 * 864)


def test_two_optimizers_are_refused_before_training_with_the_remedy(fit) -> None:
    class Two(Foreign):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def configure_optimizers(self):
            return [
                torch.optim.SGD(self.body[0].parameters(), 0.1),
                torch.optim.Adam(self.body[4].parameters()),
            ]

        def training_step(self, batch, batch_idx) -> None:
            raise AssertionError("training began")

    with pytest.raises(ValueError, match=r"one optimizer, configure_optimizers returned 2 \(SGD, Adam\): put all"):
        fit([pruning()], Two())


@pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`")
def test_an_optimizer_that_a_module_keeps_to_itself_is_refused_before_training(fit) -> None:
    """Pruned weights would come back behind its steps, which no callback sees."""

    class Own(Foreign):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def configure_optimizers(self) -> None:
            self.own = torch.optim.SGD(self.parameters(), 0.1)

        def training_step(self, batch, batch_idx) -> None:
            raise AssertionError("training began")

    with pytest.raises(ValueError, match=r"returned none with parameters of Own: return it there, and take it by self"):
        fit([pruning()], Own())


def test_a_schedule_longer_than_the_run_is_refused_before_training(fit) -> None:
    with pytest.raises(ValueError, match=r"'9ep' is step 72, but the run ends at step 32 \(4 epochs\): raise epochs"):
        fit([pruning(schedule=Rounds(0.5, start="9ep"))])


def test_a_run_without_an_end_is_refused(fit) -> None:
    with pytest.raises(ValueError, match="set max_epochs or max_steps"):
        fit([pruning()], max_epochs=-1)


def test_a_module_with_nothing_to_prune_is_refused(fit) -> None:
    module = Foreign()
    module.body = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))
    with pytest.raises(ValueError, match="Foreign: nothing to prune"):
        fit([pruning()], module)


def test_a_part_in_place_of_the_pruner_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^Pruning\(Norm\(.*\)\): expected a Pruner, which holds a criterion"):
        Pruning(Norm())
