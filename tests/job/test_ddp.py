"""A job on two devices, here processes, gives the network and numbers of one process, also when it is resumed.

Two processes that torchrun might have started run several jobs (two_ranks.py), so that torch is imported once.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from compose import compose_job, tiny_job

from prunelab.core import distributed
from prunelab.job.run import run

TESTS = Path(__file__).parents[1]
PATH = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
DDP = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
# Plain SGD at a low rate: AdamW would turn the last bit of a tiny gradient into a step of full size.
CONV2 = ["model=conv2", "optim=sgd", "optim.optimizer.lr=0.001", "epochs=2", "rate=0.5", "data.val=25"]
METHODS = {
    "usp": ["prune=usp"],
    "rigl": ["prune=rigl", "prune.pruning.pruner.regrow.every=4it"],
    "snip": ["prune=snip", "prune.pruning.pruner.criterion.batches=2"],
}
JOBS = {
    "lottery": ["prune=lottery", "rate=0.36", "epochs=1", "pretrained=auto"],  # batch norm
    "drop-out": [*METHODS["snip"], "rate=0.5", "epochs=1", "model=narrow_dropout"],
    "dsss": ["prune=dsss", "rate=0.3", "epochs=1", "model=narrow_dropout", "prune.scaling_factors.gamma=0.1"],
    "average": ["prune=usp", "rate=0.5", "epochs=1", "callbacks=ema", "callbacks.ema.decay=0.5"],  # batch norm
}
REFUSED = {
    "tampered": ["prune=random", "rate=0.5", "epochs=1", "+prune.tamper._target_=two_ranks.Tamper"],
    "strangers": ["prune=usp", "rate=0.5", "epochs=1", "seed={rank}"],
}
# In the middle of an epoch, between two steps of two batches each; the network has dropout.
KILLED = ["model=narrow_dropout", "prune=usp", "rate=0.5", "epochs=2", "every=1it"]
KILLED += ["+trainer.accumulate_grad_batches=2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def ranks(home: Path, tiny_images: Path) -> dict[str, list[dict[str, Any]]]:
    """By job, what each rank of a pair of processes ended with."""
    tiny = [*tiny_job(tiny_images), f"parents={home}/parents"]
    jobs = {name: [*CONV2, *overrides] for name, overrides in METHODS.items()} | JOBS | {"whole": KILLED}
    orders = [(name, None, added) for name, added in jobs.items()]
    orders += [("killed", 5, KILLED), ("killed", None, KILLED)]
    orders += [(name, None, added) for name, added in REFUSED.items()]  # last: what stops a rank disturbs the next job
    (home / "jobs.json").write_text(json.dumps([(name, step, [*tiny, *DDP, *added]) for name, step, added in orders]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": PATH}
    pair = [
        subprocess.Popen(
            [sys.executable, str(TESTS / "two_ranks.py"), str(home / "jobs.json")],
            env=os.environ | meeting | {"LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], "\n".join(errors)
    return {
        name: [json.loads((home / name / f"seen-{rank}.json").read_text()) for rank in (0, 1)] for name, *_ in orders
    }


@pytest.fixture(scope="module")
def alone(home: Path, tiny_images: Path) -> dict[str, dict[str, Any]]:
    """The same jobs by one process: results, with the checkpoint's content."""
    done = {}
    for name, overrides in METHODS.items():
        folder = home / f"alone-{name}"
        run(compose_job([*tiny_job(tiny_images), *CONV2, *overrides], folder))
        done[name] = left(folder)
    return done


TIMES = {"seconds": 0, "cpu_seconds": 0}
SAME = TIMES | {"layers": 0}  # layers are compared by themselves, seconds never


def left(folder: Path) -> dict[str, Any]:
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return json.loads((folder / "result.json").read_text()) | {"checkpoint": saved}


def masks(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    return next(state for key, state in checkpoint["callbacks"].items() if key.startswith("Pruning"))["keep"]


@pytest.mark.parametrize("name", [*METHODS, *JOBS])
def test_ranks_end_with_the_same_network_masks_and_history(name: str, ranks) -> None:
    first, second = ranks[name]
    for part in ("net", "buffers", "masks", "begins"):
        assert first[part] == second[part], part
    for row, other in zip(first["history"], second["history"], strict=True):
        assert row | {"seconds": 0} == other | {"seconds": 0}  # cpu_seconds are those of both


@pytest.mark.parametrize("name", METHODS)
def test_two_ranks_train_the_network_of_one_process(name: str, ranks, alone, home: Path) -> None:
    both = left(home / name)
    for row, other in zip(alone[name]["history"], both["history"], strict=True):
        assert row["layers"] == other["layers"]
        assert row | SAME == pytest.approx(other | SAME, abs=1e-5)
    for layer, mask in masks(alone[name]["checkpoint"]).items():
        assert torch.equal(mask, masks(both["checkpoint"])[layer]), layer
    for weight, tensor in alone[name]["checkpoint"]["state_dict"].items():
        torch.testing.assert_close(both["checkpoint"]["state_dict"][weight], tensor, rtol=0, atol=1e-5, msg=weight)
    assert both["identity"] != alone[name]["identity"]  # with batch norm it would have been another network


def test_ranks_that_evaluate_unequal_numbers_of_batches_do_not_wait_for_each_other(ranks) -> None:
    assert [rank["batches"][0] for rank in ranks["usp"]] == [5, 4]


def test_each_rank_has_random_numbers_of_its_own(ranks) -> None:
    first, second = ranks["drop-out"]
    assert first["stream"] != second["stream"]  # yet their masks are equal, of gradients that both have averaged


def test_ranks_that_are_processes_share_one_dense_training(ranks, home: Path) -> None:
    assert len(list((home / "parents").iterdir())) == 1
    result = left(home / "lottery")
    assert [entry["round"] for entry in result["rounds"]] == [0, 1, 2]
    accuracies = [float((home / "lottery" / f"accuracy-{rank}").read_text()) for rank in (0, 1)]
    assert accuracies == [result["accuracy"]] * 2


def test_a_mask_that_differs_between_ranks_stops_the_run_and_names_the_layer(ranks) -> None:
    for rank in ranks["tampered"]:
        assert rank["error"].startswith("net.conv1.weight: the ranks have different masks")


def test_processes_of_different_jobs_do_not_train_together(ranks) -> None:
    for rank in ranks["strangers"]:
        assert "the processes train different jobs" in rank["error"]


def test_a_killed_job_on_two_devices_resumes_to_the_same_bits(ranks) -> None:
    for undisturbed, resumed in zip(ranks["whole"], ranks["killed"], strict=True):
        assert (undisturbed["first"], resumed["first"]) == (0, 5)
        for part in ("net", "masks", "stream"):
            assert undisturbed[part] == resumed[part], part
        assert [row | SAME for row in undisturbed["history"]] == [row | SAME for row in resumed["history"]]


def test_the_command_starts_its_other_process_and_rank_0_alone_speaks(tiny_images: Path, tmp_path: Path) -> None:
    tiny = [*tiny_job(tiny_images), *DDP, "prune=usp", "rate=0.5", "epochs=1", "name=study"]
    environment = os.environ | {"PYTHONPATH": PATH}
    done = subprocess.run(
        [sys.executable, "-m", "train", *tiny], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1
    assert len(list((tmp_path / "outputs" / "study").glob("*/result.json"))) == 1


def test_the_average_over_ranks_is_a_mean(ranks) -> None:
    assert [rank["average"] for rank in ranks["usp"]] == [[0.5, 5.0]] * 2


def test_on_one_device_it_is_the_same_job_also_where_filters_are_removed(tiny_images: Path, tmp_path: Path) -> None:
    accuracies = []
    for trainer in (["trainer=cpu"], ["trainer=ddp", "trainer.accelerator=cpu"]):
        overrides = [*tiny_job(tiny_images), "prune=sp", "rate=0.5", *trainer]
        accuracies.append(run(compose_job(overrides, tmp_path / trainer[0])))
    assert accuracies[0] == accuracies[1]
    cpu, ddp = (left(tmp_path / name) for name in ("trainer=cpu", "trainer=ddp"))
    for side in ("dense", "pruned"):
        assert cpu["cost"][side] | {"latency": 0} == ddp["cost"][side] | {"latency": 0}
    assert cpu["identity"] == ddp["identity"]


def test_a_checksum_depends_on_each_unit_and_its_position() -> None:
    masks = [torch.ones(100, dtype=torch.bool) for _ in range(101)]
    for i in range(100):
        masks[i][i] = False
    pairs = [torch.arange(6).eq(i) | torch.arange(6).eq(5 - i) for i in range(3)]  # sums of positions are equal
    assert len({int(distributed.checksum(mask)) for mask in masks}) == 101
    assert len({int(distributed.checksum(mask)) for mask in pairs}) == 3
