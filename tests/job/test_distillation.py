"""Jobs with a teacher: whose weights it has, the same bits after a kill, and what is refused."""

from pathlib import Path

import pytest
import torch
from killed import killed_at

from prunelab.lit.distillation import Distillation
from prunelab.store.weights import weights_file

SP = ("prune=sp", "rate=0.5", "epochs=2", "model=narrow")


@pytest.fixture
def dense(trained) -> Path:
    """The folder of a finished dense training."""
    return trained("model=narrow")


@pytest.fixture
def teachers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights of the teacher at each step."""
    seen: list[dict[str, torch.Tensor]] = []
    loss = Distillation.__call__
    monkeypatch.setattr(
        Distillation,
        "__call__",
        lambda self, *args: (seen.append(self.teacher.state_dict()), loss(self, *args))[1],
    )
    return seen


def test_a_teacher_without_weight_changes_no_bit(job, dense: Path, tmp_path: Path) -> None:
    alone = job(*SP, f"pretrained={dense}", folder=tmp_path / "alone")
    taught = job(*SP, f"pretrained={dense}", "+distill=logits", "distill.weight=0", folder=tmp_path / "taught")
    assert all(torch.equal(t, alone["state_dict"][name]) for name, t in taught["state_dict"].items())
    assert taught["identity"] != alone["identity"]
    assert taught["comparable"] == alone["comparable"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_killed_job_ends_in_the_same_bits_and_becomes_small(
    precision: str, job, dense: Path, tmp_path: Path, teachers
) -> None:
    asked = (*SP, f"pretrained={dense}", "+distill=logits", f"precision={precision}")
    whole = job(*asked, folder=tmp_path / "whole")
    assert whole["surgery"]
    with killed_at(9):
        job(*asked)
    resumed = job(*asked)
    assert all(torch.equal(t, resumed["state_dict"][name]) for name, t in whole["state_dict"].items())
    alone = job(*SP, f"pretrained={dense}", f"precision={precision}", folder=tmp_path / "alone")
    assert alone["history"][-1]["train_loss"] != whole["history"][-1]["train_loss"]
    first = teachers[0]
    assert all(torch.equal(t, first[name]) for weights in teachers for name, t in weights.items())


def test_the_dense_training_in_the_store_is_the_teacher(job, tmp_path: Path, teachers) -> None:
    asked = ("prune=finetune", "rate=0.5", "pretrained=auto", "epochs=1", "model=narrow")
    job(*asked, folder=tmp_path / "alone")
    job(*asked, "+distill=logits", folder=tmp_path / "taught")
    (parent,) = (tmp_path / "parents").iterdir()  # one dense training for both
    saved = torch.load(weights_file(parent / "checkpoints" / "last.ckpt"), weights_only=True)["state_dict"]
    assert teachers
    assert all(torch.equal(t, saved[f"net.{name}"]) for weights in teachers for name, t in weights.items())


def test_training_from_scratch_has_no_teacher(job) -> None:
    for method in ("prune=sp", "prune=finetune"):
        with pytest.raises(ValueError, match=r"distill: .* it starts from scratch; add pretrained=auto for a method"):
            job(method, "rate=0.5", "+distill=logits")
