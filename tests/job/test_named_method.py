"""Callbacks by a method's name are those of a job, and work in any Lightning project."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from compose import compose_job, job_from
from hydra import compose, initialize_config_dir
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import prunelab
from prunelab.core.files.conf_dir import conf_dir
from prunelab.core.schedule import Cubic
from prunelab.criteria.taylor import Taylor
from prunelab.job.method import Method
from prunelab.oneshot.parts import names

IDLE = ("none", "hold", "scan", "sensitivity")  # without a rate


class Yours(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def described(part: Any) -> Any:
    """The type and all plain values of an object, and of the objects in it."""
    if type(part).__module__.startswith("prunelab."):
        return type(part), {key: described(value) for key, value in vars(part).items()}
    if isinstance(part, torch.Generator):
        return part.initial_seed()
    return {key: described(value) for key, value in part.items()} if isinstance(part, dict) else part


@pytest.mark.parametrize("name", names("prune"))
def test_the_callbacks_are_those_of_a_job(name: str, tmp_path: Path) -> None:
    rate = 0.0 if name in IDLE else 0.5
    job = job_from(compose_job([f"prune={name}", f"rate={rate}", "epochs=3", "seed=4"], tmp_path))
    expected = [described(callback) for callback in Method.of(job).callbacks]
    epochs = {"epochs": 3} if Method.of(job).rounds or name == "dsss" else {}
    assert [described(c) for c in prunelab.method(name, rate=rate, seed=4, **epochs)] == expected


def test_parts_are_chosen_by_name_and_options_by_keyword() -> None:
    (pruning,) = prunelab.method(
        "usp", rate=0.5, schedule__end=0.7, criterion="taylor", criterion__batches=3, skip=["net.2.*"]
    )
    pruner = pruning.pruner
    assert (pruner.schedule, pruner.criterion, list(pruner.skip)) == (
        Cubic(0.5, start=0.25, end=0.7),
        Taylor(3),
        ["net.2.*"],
    )


def test_options_of_callbacks_and_knobs_reach_them() -> None:
    rewind, penalize, pruning, _ = prunelab.method(
        "slimming", rate=0.5, epochs=4, rounds=2, rewind="1ep", retrain="weight_rewind",
        penalty__travel=3.0, rewind__seed=7, schedule__start="0ep", allocation="uniform", budget="macs",
    )  # fmt: skip
    assert (rewind.to, rewind.seed, rewind.parameters) == ("1ep", 7, True)
    assert penalize.penalty.travel == 3.0
    schedule = pruning.pruner.schedule
    assert (schedule.n, schedule.start, schedule.training, schedule.rewind) == (2, "0ep", "4ep", "1ep")
    assert pruning.pruner.budget.of == "macs"


def test_an_argument_that_a_file_leaves_out_can_be_given() -> None:
    (pruning,) = prunelab.method("usp", rate=0.5, allocation="erk", allocation__dense_first=True)
    assert pruning.pruner.allocation.dense_first


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*")
def test_one_line_prunes_in_any_trainer() -> None:
    module, data = Yours(), TensorDataset(torch.randn(80, 20), torch.randint(2, (80,)))
    callbacks = prunelab.method("rigl", rate=0.8, regrow__every="5it", allocation="uniform")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=2, callbacks=callbacks, enable_model_summary=False, **quiet)
    trainer.fit(module, DataLoader(data, 4))
    assert [int(module.net[i].weight.count_nonzero()) for i in (0, 2)] == [80, 8]


def test_it_composes_within_an_application_of_hydra_and_leaves_that_as_it_was() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        prunelab.method("usp", rate=0.5)
        assert compose("train", ["prune=gmp"]).prune.pruning.pruner.schedule.end == 0.75


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "method": ({"name": "rigel"}, "method='rigel': did you mean rigl.* there are: binary"),
    "rate": ({"rate": 80}, "rate=80: .* write rate=0.8"),
    "unused epochs": ({"epochs": 2}, "epochs=2: method 'usp' does not use it; drop it, Trainer has max_epochs"),
    "skip": ({"skip": "net.0*"}, r"skip='net.0\*': expected a list of patterns; write skip=\['net.0\*'\]"),
    "epochs": ({"name": "lottery"}, "method 'lottery' retrains after pruning: give epochs="),
    "unused knob": ({"rounds": 3}, "rounds=3: this method does not use it"),
    "unused rate": ({"name": "hold"}, "rate=0.5: this method does not use it"),
    "retrain": ({"retrain": "finetune"}, "retrain=finetune: this method does not prune in rounds"),
    "part": ({"penalty": "scale_l1"}, "argument of method 'usp'='penalty': there are: allocation, criterion"),
    "name of a part": ({"criterion": "tailor"}, "criterion='tailor': did you mean taylor"),
    "part of an option": ({"schedul__end": 0.7}, "part or callback='schedul': did you mean schedule"),
    "option": ({"schedule__ende": 0.7}, "option of schedule='ende': did you mean end"),
    "path": ({"criterion": "../allocation/erk"}, "criterion='../allocation/erk': there are"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_an_error_is_one_line_with_what_there_is(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        prunelab.method(**{"name": "usp", "rate": 0.5} | arguments)
    assert "\n" not in str(caught.value)


def test_a_method_without_the_rate_that_it_takes_says_that_nothing_is_pruned(caplog: pytest.LogCaptureFixture) -> None:
    for rate in (0, 0.5):
        prunelab.method("usp", rate=rate)
    for silent in ("none", "scan", "binary"):
        prunelab.method(silent)
    assert caplog.text == ""
    prunelab.method("usp")
    assert "method 'usp' without rate: nothing will be pruned, give rate=0.8" in caplog.text
