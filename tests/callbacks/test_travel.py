"""How far a pull moves an idle parameter, worked out from the schedule and measured on one."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, OneCycleLR, SequentialLR
from torch.utils.data import DataLoader, TensorDataset

from prunelab.callbacks.travel import planned_rates, reach_before_pruning
from prunelab.channels.penalties import GroupLasso, ScaleL1
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic, Rounds, Schedule
from prunelab.criteria.norm import Norm

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
EPOCHS, EPOCH = 3, 4


class Pulled(L.LightningModule):
    """The loss pulls at one weight with 1, and notes the learning rate of each step."""

    def __init__(self, optimizer=None, schedule=None, interval: str = "step") -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(2, 2, bias=False), nn.Parameter(torch.full((1,), 100.0))
        self.optimizer, self.schedule, self.interval = optimizer, schedule, interval
        self.rates: list[float] = []

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return self.idle.sum() + 0 * self.layer(batch[0]).sum()

    def configure_optimizers(self):
        optimizer = (self.optimizer or (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)))(self.parameters())
        if self.schedule is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": self.interval},
        }


class Look(L.Callback):
    def __init__(self, schedule: Schedule | None = None) -> None:
        self.pruner = Pruner(Norm(), Weight(), Uniform(), schedule) if schedule else None

    def on_train_start(self, trainer: L.Trainer, module: Pulled) -> None:
        self.planned = planned_rates(trainer, EPOCHS * EPOCH)
        self.reach = reach_before_pruning(trainer, self.pruner)


def fit(module: Pulled, *callbacks: L.Callback, fast_dev_run: int = 0, then_epochs: int = 0) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        max_epochs=EPOCHS, callbacks=list(callbacks), accelerator="cpu", enable_model_summary=False,
        fast_dev_run=fast_dev_run, **quiet,
    )  # fmt: skip
    trainer.fit(module, loader := DataLoader(TensorDataset(torch.zeros(EPOCH, 2))))
    if then_epochs:
        trainer.fit_loop.max_epochs = EPOCHS + then_epochs
        trainer.fit(module, loader)


SCHEDULES = {
    "constant": None,
    "one cycle": lambda o: OneCycleLR(o, 0.1, EPOCHS * EPOCH, cycle_momentum=False),
    "steps": lambda o: MultiStepLR(o, [5, 9]),
    "two": lambda o: SequentialLR(o, [MultiStepLR(o, [3]), CosineAnnealingLR(o, 6)], [6]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_planned_rates_are_those_of_the_steps_and_planning_changes_none(name: str) -> None:
    look, module, plain = Look(), Pulled(schedule=SCHEDULES[name]), Pulled(schedule=SCHEDULES[name])
    fit(module, look)
    fit(plain)
    assert look.planned == pytest.approx(module.rates, abs=0)
    assert module.rates == plain.rates


def test_a_schedule_by_epochs_is_planned_by_epochs() -> None:
    look, module = Look(), Pulled(schedule=lambda o: MultiStepLR(o, [1, 2]), interval="epoch")
    fit(module, look)
    assert look.planned == pytest.approx(module.rates, abs=0)
    assert len(set(look.planned)) == 3


class Clock(Pulled):
    """As Lightning's documentation steps the schedules of timm."""

    def lr_scheduler_step(self, scheduler, metric) -> None:
        scheduler.step(epoch=self.current_epoch)


class Manual(Pulled):
    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.manual_backward(super().training_step(batch, batch_idx))
        self.optimizers().step()


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
@pytest.mark.parametrize(("kind", "why"), [(Clock, "tells the schedule the time"), (Manual, "when it likes")])
def test_of_rates_that_cannot_be_told_no_gamma_is_made(kind: type[Pulled], why: str) -> None:
    look, module = Look(), kind(schedule=SCHEDULES["steps"])
    fit(module, look)
    assert why in look.reach.unknown
    with pytest.raises(ValueError, match=f"^gamma follows from the learning rates to come, and .*{why}: give a gamma$"):
        ScaleL1().planned(look.reach)
    assert ScaleL1(gamma=0.5).planned(look.reach).gamma == 0.5
    with pytest.raises(ValueError, match="give a gamma"):
        GroupLasso().planned(look.reach)


def test_a_schedule_of_another_kind_that_counts_its_own_steps_is_planned() -> None:
    class Halving:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

        def step(self) -> None:
            self.optimizer.param_groups[0]["lr"] /= 2

        def state_dict(self) -> dict:
            return {}

        load_state_dict = state_dict

    class Own(Pulled):
        def lr_scheduler_step(self, scheduler, metric) -> None:
            scheduler.step()

    look, module = Look(), Own(schedule=Halving)
    fit(module, look)
    assert not look.reach.unknown
    assert look.planned == pytest.approx(module.rates, abs=0)


def test_manual_optimization_without_a_schedule_has_a_constant_rate() -> None:
    look = Look()
    fit(Manual(), look)
    assert not look.reach.unknown
    assert look.reach.proximal == pytest.approx(0.1 * EPOCHS * EPOCH)


@pytest.mark.parametrize(("schedule", "steps"), [
    (Rounds(0.5, start="2ep", training="2ep"), 8), (Rounds(0.5, n=2, start="1ep", training="1ep"), 4),
    (Cubic(0.5, end=0.5, every="1it"), 6), (None, 12),
])  # fmt: skip
def test_it_ends_at_the_first_pruning_in_rounds_else_at_the_last(schedule: Schedule | None, steps: int) -> None:
    look = Look(schedule)
    fit(Pulled(), look)
    assert look.reach.steps == steps
    assert look.reach.proximal == pytest.approx(0.1 * steps)
    assert look.reach.gradient == pytest.approx(steps)


@pytest.mark.parametrize("schedule", [None, Rounds(0.5, start="2ep", training="2ep")])
def test_in_a_fast_dev_run_it_is_that_of_the_few_batches(schedule: Schedule | None) -> None:
    look = Look(schedule)
    fit(Pulled(), look, fast_dev_run=3)
    assert look.reach.steps == 3


@pytest.mark.parametrize(("schedule", "steps"), [(None, 8), (Rounds(0.5, start=0.8, training="1ep"), 4)])
def test_in_a_training_that_goes_on_it_begins_at_the_step_of_now(schedule: Schedule | None, steps: int) -> None:
    look, module = Look(schedule), Pulled()
    fit(module, look, then_epochs=2)
    assert look.reach.steps == steps


def test_a_schedule_that_the_module_takes_no_further_is_planned_no_further() -> None:
    class Ends(Pulled):
        def lr_scheduler_step(self, scheduler: OneCycleLR, metric: None) -> None:
            if scheduler.last_epoch < EPOCH:
                scheduler.step()

    look, module = Look(), Ends(schedule=lambda o: OneCycleLR(o, 0.1, EPOCH, cycle_momentum=False))
    fit(module, look)
    assert look.planned == pytest.approx(module.rates, abs=0)


def test_an_idle_weight_is_moved_as_far_as_that_less_what_momentum_still_holds() -> None:
    look, module = Look(), Pulled(lambda p: torch.optim.SGD(p, 0.1, momentum=0.5), lambda o: MultiStepLR(o, [8], 1e-3))
    fit(module, look)
    assert 100 - module.idle.item() == pytest.approx(look.reach.gradient, rel=0.15)


def test_adam_normalises_a_pull_so_that_it_moves_by_the_learning_rates() -> None:
    look, module = Look(), Pulled(lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.0))
    fit(module, look)
    assert look.reach.gradient is None
    assert 100 - module.idle.item() == pytest.approx(look.reach.proximal, rel=1e-4)
