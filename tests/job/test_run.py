"""One job end to end: its files, what it refuses, and that it is not run twice."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from killed import killed_at
from narrow import resnet8
from torch import nn

from prunelab.channels import units
from prunelab.data.sources.image_folder import ImageFolder
from prunelab.job.run import run


def test_a_job_leaves_checkpoint_event_file_and_a_whole_result(job, tmp_path: Path) -> None:
    result = job("prune=usp", "rate=0.8", "logger=tensorboard")
    assert (tmp_path / "job" / "checkpoints" / "last.ckpt").exists()
    assert list((tmp_path / "job").glob("events.out.tfevents.*"))
    assert (result["method"], result["rate"], result["seed"]) == ("usp", 0.8, 0)
    assert [epoch["epoch"] for epoch in result["history"]] == [1, 2, 3]
    assert result["accuracy"] == result["history"][-1]["test_acc"]
    assert result["cost"]["dense"]["params"] == 5_006
    zeros = sum(layer["zeros"] for layer in result["sparsity"]["layers"].values())
    assert result["cost"]["pruned"]["nonzero"] <= 5_006 - zeros
    for name, layer in result["sparsity"]["layers"].items():
        assert layer["zeros"] == int(result["state_dict"][f"net.{name}"].eq(0).sum())
        assert layer["removed"] == round(0.8 * layer["units"])
    assert (result["data"]["train"], result["data"]["val"], result["data"]["test"]) == (140, 20, 40)


def test_scalars_of_every_split_and_layer_reach_tensorboard(job, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = job("prune=sp", "rate=0.5", "logger=tensorboard")
    events = EventAccumulator(str(tmp_path / "job"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "acc")} <= tags
    assert {"sparsity/all", "units_removed/net.conv1", "train/lr", "train/seconds"} <= tags
    written = [event.value for event in events.Scalars("test/acc")]
    assert written == pytest.approx([epoch["test_acc"] for epoch in result["history"]])


def test_the_reported_accuracy_is_that_of_the_saved_weights_on_all_test_images(usp, composed) -> None:
    from hydra.utils import instantiate

    result = usp[1]
    cfg = composed("prune=usp", "rate=0.5")
    splits = instantiate(cfg.data).load()
    net = resnet8()
    net.load_state_dict({k.removeprefix("net."): v for k, v in result["state_dict"].items() if k.startswith("net.")})
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (splits.mean, splits.std))
    with torch.no_grad():
        logits = net.eval()((splits.test.x / 255 - mean) / std)
    assert result["accuracy"] == pytest.approx((logits.argmax(1) == splits.test.y).float().mean().item(), abs=0.026)


def test_a_finished_job_is_not_run_again(finished, composed, monkeypatch) -> None:
    monkeypatch.setattr("prunelab.job.run.make_trainer", lambda *_: pytest.fail("it trained again"))
    for accelerator in ("auto", "mps"):  # though there is no such device
        assert run(composed("prune=usp", "rate=0.5", f"trainer.accelerator={accelerator}")) == finished["accuracy"]


def test_a_rate_is_the_same_job_however_zero_is_written(job, composed, monkeypatch) -> None:
    accuracy = job("prune=usp")["accuracy"]  # the default is 0.0
    monkeypatch.setattr("prunelab.job.run.make_trainer", lambda *_: pytest.fail("it trained again"))
    assert run(composed("prune=usp", "rate=0")) == accuracy


def test_a_network_that_calls_view_trains_as_with_channels_last_off_and_says_so_once(job, tmp_path, caplog) -> None:
    caplog.set_level("INFO", "prunelab")
    viewing = ("model=narrow", "model._target_=narrow.Viewing", "prune=usp", "rate=0.5", "epochs=1")
    ends = [job(*viewing, f"channels_last={last}", folder=tmp_path / last) for last in ("true", "false")]
    assert caplog.text.count("channels_last=false: Viewing cannot take it: RuntimeError: view size") == 1
    first, second = (end["state_dict"] for end in ends)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert ends[0]["accuracy"] == ends[1]["accuracy"]


def test_another_precision_is_another_job(finished, composed) -> None:
    with pytest.raises(ValueError, match="holds another job, with other precision"):
        run(composed("prune=usp", "rate=0.5", "precision=bf16-mixed"))


@pytest.mark.parametrize("budget", ["units", "macs"])
def test_the_channels_of_a_network_are_traced_once_a_job(budget: str, job, monkeypatch: pytest.MonkeyPatch) -> None:
    traced, channel_graph = [], units.channel_graph
    monkeypatch.setattr(units, "channel_graph", lambda *args: traced.append(args) or channel_graph(*args))
    assert job("prune=sp", "rate=0.3", f"budget={budget}", "epochs=1")["surgery"]
    assert len(traced) == 1


def test_widths_are_rounded_and_what_changed_is_in_the_result(job) -> None:
    result = job("prune=sp", "rate=0.36", "round_to=4", "epochs=1")  # of 44 units 16 go
    widths = {tuple(t.shape[:1]) for name, t in result["state_dict"].items() if name.endswith("conv1.weight")}
    assert all(width % 4 == 0 for (width,) in widths)
    assert result["budget"]["attained"] == pytest.approx(0.36, abs=0.01)
    # Of 16 units 10 would be left, as near to 8 as to 12; at 12, only 12 units would go in all.
    assert result["budget"]["rounded"]["layer3.0.conv1.weight"] == [10, 8]
    assert result["config"]["prune"]["pruning"]["pruner"]["budget"]["round_to"] == 4


def test_what_auto_was_when_a_job_began_it_stays_on_another_machine(job, composed, monkeypatch) -> None:
    def found(precision: str) -> None:
        monkeypatch.setattr("prunelab.job.run.precision_for", lambda _: precision)

    found("bf16-mixed")
    began = job("epochs=1", "precision=auto")
    found("32-true")
    assert run(composed("epochs=1", "precision=auto")) == began["accuracy"]  # finished
    assert began["values"]["precision"] == "bf16-mixed"


def test_a_killed_job_in_bfloat16_ends_in_the_same_bits(job, tmp_path: Path) -> None:
    asked = ("prune=sp", "rate=0.5", "precision=bf16-mixed", "epochs=2")
    whole = job(*asked, folder=tmp_path / "whole")
    with killed_at(9):
        job(*asked)
    resumed = job(*asked)
    assert resumed["values"]["precision"] == "bf16-mixed"
    assert all(torch.equal(t, resumed["state_dict"][name]) for name, t in whole["state_dict"].items())


def test_test_labels_select_nothing(usp, job, monkeypatch) -> None:
    """With other test labels the accuracy differs, and not a bit of the weights."""
    first, load = usp[1], ImageFolder.load

    def shuffled(self):
        splits = load(self)
        return replace(splits, test=replace(splits.test, labels=splits.test.labels.roll(1)))

    monkeypatch.setattr(ImageFolder, "load", shuffled)
    second = job("prune=usp", "rate=0.5")
    assert [e["test_loss"] for e in first["history"]] != [e["test_loss"] for e in second["history"]]
    assert first["state_dict"].keys() == second["state_dict"].keys()
    assert all(torch.equal(tensor, second["state_dict"][name]) for name, tensor in first["state_dict"].items())


@pytest.mark.parametrize("compiled", [False, True])
def test_only_steps_of_training_are_compiled_and_the_time_of_that_is_recorded_apart(
    compiled: bool, job, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[bool] = []

    def compile(net: nn.Module) -> None:
        def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
            graphs.append(torch.is_grad_enabled())
            return graph.forward

        net._compiled_call_impl = torch.compile(net._call_impl, backend=backend)

    monkeypatch.setattr(nn.Module, "compile", compile)
    history = job("prune=sp", "rate=0.5", f"compile={compiled}", "epochs=2")["history"]
    assert graphs == [True, True] * compiled  # of the large network and of the small one
    assert any("compile_seconds" in epoch for epoch in history) == compiled
    assert all(epoch["seconds"] > 0 for epoch in history)


def test_two_jobs_do_not_share_a_folder(finished, composed) -> None:
    with pytest.raises(ValueError, match=r"holds another job, with other optim.optimizer.lr: choose another name="):
        run(composed("prune=usp", "rate=0.5", "optim.optimizer.lr=0.01"))


def test_a_truncated_result_does_not_count_as_finished(finished, job, tmp_path: Path) -> None:
    whole = (tmp_path / "job" / "result.json").read_text()
    (tmp_path / "job" / "result.json").write_text(whole[: len(whole) // 2])
    again = job("prune=usp", "rate=0.5")
    assert again["accuracy"] == finished["accuracy"]
    assert again["history"] == finished["history"]  # from the checkpoint: no epoch was trained anew


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["prune=usp", "prune/allocation=explicit", "+prune.pruning.pruner.allocation.rates={fc9*:0.1}"],
            r"rates\['fc9\*'\] matches no layer",
        ),
        (["prune=usp", "prune.pruning.pruner.schedule.end=1.0"], "nothing would be trained at the full rate"),
        (
            ["prune=usp", "prune.pruning.pruner.schedule.end=9ep"],
            "'9ep' is step 63, but the run ends at step 21",
        ),
        (["prune=magnitude_layer", "rewind=30it"], "rewind='30it' is step 30, but the run ends at step 21"),
        (["prune=usp", "prune.pruning.pruner.skip=['*']"], "every prunable weight is skipped"),
        (["prune=usp", "prune.pruning.pruner.skip=[nope]"], "skip='nope' matches no prunable weight"),
        (["data.val=161"], "val=161"),
        (["optim.batch_size=1000"], "batch_size=1000"),
    ],
)
def test_bad_input_is_refused_before_any_training(overrides: list[str], message: str, composed, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run(composed("logger=tensorboard", "rate=0.5" if "prune=" in overrides[0] else "rate=0", *overrides))
    assert {path.name for path in (tmp_path / "job").glob("*")} <= {".lock", "failure.json"}


def test_missing_images_stop_the_job(composed, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        run(composed(f"data.root={tmp_path}/nowhere"))


@pytest.mark.parametrize("form", ["safetensors", "pt", "ckpt"])
def test_pretrained_weights_are_where_training_starts(form: str, composed, job, tmp_path: Path) -> None:
    torch.manual_seed(3)
    weights = resnet8().state_dict()
    path = tmp_path / f"dense.{form}"
    if form == "safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights if form == "pt" else {"state_dict": {f"net.{k}": v for k, v in weights.items()}}, path)
    result = job(f"pretrained={path}", "optim.optimizer.lr=0.0", "epochs=1")
    assert torch.equal(result["state_dict"]["net.conv1.weight"], weights["conv1.weight"])


def test_weights_of_another_network_are_refused_by_tensor(composed, tmp_path: Path) -> None:
    weights = resnet8(num_classes=7).state_dict() | {"extra": torch.zeros(1)}
    safetensors.torch.save_file(weights, tmp_path / "p.safetensors")
    with pytest.raises(
        ValueError, match=r"it has extra, which nothing asks for; fc.weight is \(7, 16\), expected \(10, 16\)"
    ):
        run(composed(f"pretrained={tmp_path}/p.safetensors"))


def test_weights_from_a_file_are_pruned_first(composed, tmp_path: Path) -> None:
    safetensors.torch.save_file(resnet8().state_dict(), tmp_path / "p.safetensors")
    cfg = composed("prune=magnitude_global", "rate=0.5", f"pretrained={tmp_path}/p.safetensors")
    assert cfg.prune.pruning.pruner.schedule.start == "0ep"
    assert composed("prune=magnitude_global").prune.pruning.pruner.schedule.start == "3ep"


def test_a_pickle_that_runs_code_is_refused(composed, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="it holds getattr beside tensors, and code in a file is never run"):
        run(composed(f"pretrained={tmp_path}/evil.pt"))
    assert not (tmp_path / "ran").exists()


def test_a_diverged_job_names_the_layer_and_writes_no_result(composed, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weight: its scores contain NaN"):
        run(composed("prune=usp", "rate=0.5", "optim.optimizer.lr=1e30"))
    assert not (tmp_path / "job" / "result.json").exists()


def test_a_job_that_diverges_keeps_finite_checkpoints_however_often_it_is_repeated(composed, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"step 2: .* is NaN or infinite, .* \(that of step 1 is kept\): lower the"
        ):
            run(composed("every=1it", "optim.optimizer.lr=1e20"))
        for path in (tmp_path / "job" / "checkpoints").iterdir():
            checkpoint = torch.load(path, weights_only=True)
            assert checkpoint["global_step"] == 1
            assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_job_json_holds_the_overrides(usp) -> None:
    overrides = json.loads((usp[0] / "job.json").read_text())["overrides"]
    assert {"prune=usp", "rate=0.5", "epochs=3"} <= set(overrides)
