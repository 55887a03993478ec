"""Law 6: rewinding restores step k exactly, also after a kill between rounds."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from resumable import Resumable
from sam import Sam
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from prunelab.callbacks import Pruning, Rewind
from prunelab.core.allocation import Global
from prunelab.core.granularity import NM, Weight
from prunelab.core.pruner import Pruner
from prunelab.core.regrow import Regrow
from prunelab.core.schedule import Cubic, Rounds
from prunelab.criteria.norm import Norm
from prunelab.criteria.random import Random

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]
TRAINING, EPOCH = 3, 8  # epochs of one training, steps of an epoch


class Foreign(L.LightningModule):
    """Somebody's module, with batch norm, bias, momentum and a schedule that depends on its own past."""

    def __init__(self, adam: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
        self.adam = adam

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.body(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        steps = TRAINING * EPOCH
        if self.adam:
            optimizer: Any = torch.optim.AdamW(self.parameters(), 0.01)
            schedule: Any = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, steps, cycle_momentum=False)
        else:
            optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def state(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
    """All that law 6 names, copied."""
    optimizer = trainer.optimizers[0]
    names = {p: name for name, p in module.named_parameters()}
    return {
        "parameters": {name: p.detach().clone() for name, p in module.named_parameters()},
        "buffers": {name: b.clone() for name, b in module.named_buffers()},
        "optimizer": {
            f"{names[p]}.{key}": value.clone()
            for p, s in optimizer.state.items()
            for key, value in s.items()
            if isinstance(value, Tensor)
        },
        "lr": [group["lr"] for group in optimizer.param_groups],
        "schedule": dict(trainer.lr_scheduler_configs[0].scheduler.state_dict()),
    }


class Watch(L.Callback):
    """Keeps the state before each step, and the masks; stands last, so it sees what the step will see."""

    def __init__(self, pruner: Pruner, kill: int | None = None, path: Path | None = None) -> None:
        self.pruner, self.kill, self.path = pruner, kill, path
        self.before: dict[int, dict[str, Any]] = {}
        self.masks: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        if trainer.global_step not in self.before:  # of the batches of one step, the first
            self.before[trainer.global_step] = state(trainer, module)
            self.masks[trainer.global_step] = dict(self.pruner.masks)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        if trainer.global_step == self.kill:
            trainer.save_checkpoint(self.path)
            raise KeyError("killed")


class Save(L.Callback):
    """Keeps a checkpoint of step 16."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == 16:
            trainer.save_checkpoint(self.path)


def loader() -> DataLoader:
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(64, 1, 8, 8, generator=g), torch.randint(0, 3, (64,), generator=g))
    return Resumable(data, 8)


def rounds(n: int = 2, rewind: str | int = "5it", **options: Any) -> tuple[Pruning, Rewind]:
    schedule = Rounds(0.75, n=n, start=f"{TRAINING}ep", training=f"{TRAINING}ep", rewind=rewind)
    return Pruning(Pruner(Norm(), Weight(), Global(), schedule)), Rewind(rewind, **options)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., tuple[Watch, L.LightningModule]]:
    def run(parts: tuple[Pruning, Rewind], module: L.LightningModule | None = None, kill=None, ckpt=None, **trainer):
        pruning = parts[0]
        length = pruning.pruner.schedule.length(EPOCH) or TRAINING * EPOCH
        watch = Watch(pruning.pruner, kill, tmp_path / "kill.ckpt")
        module = module or Foreign()
        options = {
            "max_epochs": length // EPOCH,
            "callbacks": [*parts, watch],
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
        }
        try:
            L.Trainer(**(options | trainer)).fit(module, loader(), ckpt_path=ckpt)
        except KeyError:
            assert kill is not None
        return watch, module

    return run


def assert_back(watch: Watch, step: int, k: int) -> None:
    then, now, masks = watch.before[k], watch.before[step], watch.masks[step]
    assert masks
    for part in ("parameters", "buffers", "optimizer"):
        assert then[part].keys() == now[part].keys(), part
        for name, tensor in now[part].items():
            mask = masks.get(name if part == "parameters" else name.rsplit(".", 1)[0], torch.ones(()))
            fits = mask.shape == tensor.shape
            assert torch.equal(tensor, then[part][name] * mask if fits else then[part][name]), (part, name)
    assert then["lr"] == now["lr"]
    assert then["schedule"] == now["schedule"]


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("rewind", [0, "5it", "1ep"])
def test_after_each_pruning_everything_is_as_it_was_at_step_k_where_weights_are_kept(fit, adam, rewind) -> None:
    watch, _ = fit(rounds(rewind=rewind), Foreign(adam))
    first, second = TRAINING * EPOCH, TRAINING * EPOCH + (TRAINING - (rewind != 0)) * EPOCH
    assert max(watch.before) + 1 == second + (second - first)
    for step in (first, second):
        assert_back(watch, step, {0: 0, "5it": 5, "1ep": 8}[rewind])
        assert any(not torch.equal(a, b) for a, b in zip(
            watch.before[step - 1]["parameters"].values(), watch.before[step]["parameters"].values(), strict=True
        ))  # fmt: skip


@pytest.mark.parametrize("kill", [3, 20, 24, 29, 45])
def test_killed_before_between_and_inside_rounds_the_run_goes_on_to_the_same_bits(fit, tmp_path, kill) -> None:
    whole, a = fit(rounds(rewind="1ep"))
    fit(rounds(rewind="1ep"), kill=kill)
    resumed, b = fit(rounds(rewind="1ep"), ckpt=tmp_path / "kill.ckpt", module=Foreign())
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    if kill > 40:  # the resumed run has no pruning left to rewind after
        return
    assert whole.before[40]["lr"] == resumed.before[40]["lr"]
    for name, snapshot in whole.before[8]["parameters"].items():
        mask = resumed.masks[40].get(name, torch.ones(()))
        assert torch.equal(resumed.before[40]["parameters"][name], snapshot * mask), name


@pytest.mark.parametrize("left", ["parameters", "buffers", "optimizer", "schedule"])
def test_what_is_not_chosen_goes_on(fit, left: str) -> None:
    watch, _ = fit(rounds(n=1, **{left: False}))
    step, k = TRAINING * EPOCH, 5
    parts = {"parameters", "buffers", "optimizer"} - {left}
    now, then = watch.before[step], watch.before[k]
    if left == "schedule":
        assert now["schedule"] != then["schedule"]
        for at in range(step, step + TRAINING * EPOCH - EPOCH):  # it goes on down the cosine, to 0 and up again
            assert watch.before[at]["lr"][0] == pytest.approx(0.05 * (1 + math.cos(math.pi * at / step)), abs=1e-9)
        return
    assert now["lr"] == then["lr"]
    assert now["schedule"] == then["schedule"]
    for part in parts:
        names = [n for n in now[part] if n not in watch.masks[step] and n.rsplit(".", 1)[0] not in watch.masks[step]]
        assert names
        assert all(torch.equal(now[part][name], then[part][name]) for name in names), part
    assert any(not torch.equal(now[left][name], then[left][name]) for name in now[left])


def test_the_learning_rate_alone_goes_back_with_the_weights_as_trained(fit) -> None:
    """Renda's learning-rate rewinding; the cosine schedule computes each rate from the one before."""
    watch, _ = fit(rounds(n=1, rewind="1ep", parameters=False, buffers=False, optimizer=False))
    rates = {step: seen["lr"] for step, seen in watch.before.items()}
    for step in range(8, 24):
        assert rates[step + 16] == pytest.approx(rates[step])


def test_reinit_has_the_mask_of_the_ticket_and_other_initial_weights(fit) -> None:
    ticket, _ = fit(rounds(rewind="1ep"))
    control, _ = fit(rounds(rewind="1ep", control="reinit"))
    assert control.masks[40].keys() == ticket.masks[40].keys()
    assert all(torch.equal(control.masks[40][name], mask) for name, mask in ticket.masks[40].items())
    now, start, rewound = control.before[40], control.before[0], control.before[8]
    for name, weight in start["parameters"].items():
        mask = control.masks[40].get(name)
        if mask is None:
            assert torch.equal(now["parameters"][name], weight)
        else:
            assert not torch.equal(now["parameters"][name], weight * mask)
            values = set(weight.flatten().tolist()) | {0.0}
            assert set(now["parameters"][name].flatten().tolist()) <= values
    assert now["optimizer"] == {}
    assert now["lr"] == rewound["lr"]
    assert all(torch.equal(now["buffers"][n], b) for n, b in start["buffers"].items())


def test_shuffle_has_the_weights_of_the_ticket_and_as_many_in_other_places(fit) -> None:
    ticket, _ = fit(rounds(rewind="1ep"))
    control, module = fit(rounds(rewind="1ep", control="shuffle"))
    for name, mask in ticket.masks[40].items():
        other = control.masks[40][name]
        assert other.sum() == mask.sum()
        assert not torch.equal(other, mask)
        assert torch.equal(control.before[40]["parameters"][name], control.before[8]["parameters"][name] * other)
        assert not module.get_parameter(name)[~other].any()


def test_reinit_leaves_a_frozen_layer_as_it_is(fit) -> None:
    module = Foreign()
    module.body[0].requires_grad_(False)
    before = module.body[0].weight.clone()
    fit(rounds(rewind="1ep", control="reinit"), module)
    assert torch.equal(module.body[0].weight, before)


@pytest.mark.parametrize("control", ["reinit", "shuffle"])
def test_controls_wait_for_the_last_round(fit, control: str) -> None:
    plain, _ = fit(rounds(rewind="1ep"))
    controlled, _ = fit(rounds(rewind="1ep", control=control))
    for step in (24, 39):
        for name, weight in plain.before[step]["parameters"].items():
            assert torch.equal(controlled.before[step]["parameters"][name], weight), step


def test_used_for_two_fits_it_takes_the_snapshot_of_the_second(fit) -> None:
    parts = rounds(rewind="1ep")
    fit(parts)
    other = Foreign()
    with torch.no_grad():
        other.body[4].weight.mul_(2)
    watch, _ = fit(parts, other)
    assert_back(watch, 24, 8)


def test_more_epochs_of_the_same_training_keep_its_snapshot(fit) -> None:
    parts = rounds()
    _, module = fit(parts)
    snapshots, trainer = parts[1].snapshots, module.trainer
    trainer.fit_loop.max_epochs += 1
    trainer.fit(module, loader())
    assert snapshots.keys() == parts[1].snapshots.keys() == {"rewind"}
    assert trainer.global_step > 0


def test_a_rewind_listed_before_or_after_the_pruning_does_the_same(fit) -> None:
    (a, b), (c, d) = rounds(), rounds()
    _, one = fit((a, b))
    _, two = fit((c, d), callbacks=[d, c])
    assert all(torch.equal(x, y) for x, y in zip(one.parameters(), two.parameters(), strict=True))


def test_a_step_after_the_first_pruning_is_refused_with_the_remedy(fit) -> None:
    pruning, _ = rounds()
    pruning.pruner.schedule = Rounds(0.5, start="1ep", training="3ep")
    for late in ("2ep", "1ep"):
        with pytest.raises(ValueError, match=rf"rewind to '{late}'.*first pruning is at step 8.*earlier step"):
            fit((pruning, Rewind(late)), kill=1)  # before the first step


def test_a_checkpoint_without_a_snapshot_is_refused_at_once(fit, tmp_path: Path) -> None:
    pruning, _ = rounds()
    fit((pruning, Save(tmp_path / "other.ckpt")), kill=None)
    with pytest.raises(ValueError, match=r"resumes at step 16, and its checkpoint holds no snapshot"):
        fit(rounds(), ckpt=tmp_path / "other.ckpt", kill=17)


def test_a_gradual_schedule_is_refused(fit) -> None:
    pruning = Pruning(Pruner(Norm(), Weight(), Global(), Cubic(0.5)))
    with pytest.raises(ValueError, match="Rewind goes with Rounds: Cubic prunes all the time"):
        fit((pruning, Rewind(0)))


def test_a_schedule_that_follows_the_trainers_clock_cannot_go_back(fit) -> None:
    class Clock(Foreign):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            scheduler.step(epoch=self.current_epoch)

    with pytest.raises(ValueError, match=r"cannot set the schedule back: .* tells the schedule the time; .*=False$"):
        fit(rounds(), Clock())


def test_the_state_of_an_optimizer_that_another_holds_is_not_restored_and_that_is_said(fit) -> None:
    class Held(Foreign):
        def configure_optimizers(self) -> Any:
            optimizer = Sam(self.parameters())
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 5)]

    with pytest.raises(ValueError, match="does not restore the optimizer that Sam holds: use optimizer=False"):
        fit(rounds(), Held())
    fit(rounds(optimizer=False, control="reinit"), Held())


def test_manual_optimization_is_refused(fit) -> None:
    module = Foreign()
    module.automatic_optimization = False
    with pytest.raises(ValueError, match="automatic_optimization=True"):
        fit(rounds(), module)


@pytest.mark.parametrize("trainer", [{"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_accumulation_and_mixed_precision_rewind_as_well(fit, trainer) -> None:
    parts = rounds(n=1, rewind="1ep")
    epoch = 4 if "accumulate_grad_batches" in trainer else EPOCH
    watch, _ = fit(parts, **trainer)
    assert_back(watch, TRAINING * epoch, epoch)


def test_weights_that_come_back_by_regrowth_rewind_nothing(fit) -> None:
    pruning, rewind = rounds(n=1, rewind="1ep")
    pruning.pruner.regrow = Regrow(Norm(), Random(), every="3it", until=0.9)
    watch, _ = fit((pruning, rewind))
    changed = [
        s for s in range(25, 40) if any(not torch.equal(m, watch.masks[s][n]) for n, m in watch.masks[s - 1].items())
    ]
    assert changed
    for step in changed:
        name, weight = next(iter(watch.before[step]["parameters"].items()))
        assert not torch.equal(weight, watch.before[8]["parameters"][name] * watch.masks[step][name])


def test_two_prunings_or_an_unknown_control_are_refused(fit) -> None:
    (a, rewind), (b, _) = rounds(), rounds()
    b.pruner.skip = ("body.0.*",)
    with pytest.raises(ValueError, match="beside one Pruning"):
        fit((a, rewind), callbacks=[a, b, rewind])
    with pytest.raises(ValueError, match="control='other': expected one of"):
        Rewind(control="other")


def test_a_shuffle_that_would_break_groups_is_refused(fit) -> None:
    schedule = Rounds(0.5, start=f"{TRAINING}ep", training=f"{TRAINING}ep")
    pruning = Pruning(Pruner(Norm(), NM(m=4), Global(), schedule))
    with pytest.raises(ValueError, match="control=shuffle would break N:M groups"):
        fit((pruning, Rewind(control="shuffle")))
