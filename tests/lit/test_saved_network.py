"""`Classifier.load_from_checkpoint` gives the network that a job tested, and refuses in a line what it cannot load."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from narrow import resnet8
from pages import ROOT, snippets
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import prunelab
from prunelab.callbacks.binarize import Binarize
from prunelab.callbacks.pruning import Pruning
from prunelab.callbacks.shrink import Shrink
from prunelab.channels.units import Channels
from prunelab.core.allocation import Uniform
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Cubic
from prunelab.criteria.norm import Norm
from prunelab.lit.classifier import Classifier
from prunelab.lit.schedules import cosine

IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
Trained = Callable[..., Path]
SMALL = ("prune=sp", "rate=0.5")


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("job", [("prune=usp", "rate=0.5"), SMALL])
def test_the_network_is_the_one_in_the_jobs_model_file(job: tuple[str, ...], trained: Trained) -> None:
    folder = trained(*job)
    module = Classifier.load_from_checkpoint(last(folder))
    assert module.training
    assert module.net.training  # Lightning's Trainer leaves it as it is
    again = prunelab.load(folder / "model.safetensors")
    assert {name: t.shape for name, t in module.net.state_dict().items()} == {
        name: t.shape for name, t in again.state_dict().items()
    }
    assert torch.equal(module.eval()(IMAGES), again(IMAGES))


def test_the_example_of_the_documentation_runs(trained: Trained) -> None:
    (example,) = snippets(ROOT / "docs" / "job.md")
    names: dict[str, Any] = {}
    exec(example.replace("outputs/study/prune=sp,rate=0.5,seed=0", str(trained(*SMALL))), names)
    assert not names["module"].net.training


def test_a_network_of_ones_own_is_given_new_and_becomes_small(trained: Trained) -> None:
    path = last(trained(*SMALL, "model=narrow"))
    with pytest.raises(ValueError, match=r"last\.ckpt: its network is narrow\.resnet8: give a new one, load_from_"):
        Classifier.load_from_checkpoint(path)
    module = Classifier.load_from_checkpoint(str(path), net=resnet8())
    assert torch.equal(module.eval()(IMAGES), prunelab.load(path.parents[1] / "model.safetensors", resnet8())(IMAGES))
    with pytest.raises(ValueError, match=r"last\.ckpt: .*ResNet, which must be new and unpruned"):
        Classifier.load_from_checkpoint(path, net=module.net)


def test_its_other_arguments_are_kept_or_given_anew(tmp_path: Path) -> None:
    """In a Trainer without a job; with images of another size and number of classes."""
    example = torch.zeros(2, 3, 48, 48)
    module = Classifier(resnet8(4), torch.optim.SGD, cosine, 4, 0.1, example=example)
    loader = DataLoader(TensorDataset(torch.randn(6, 3, 48, 48), torch.arange(6) % 4), 3)
    trainer = fit(module, loader, tmp_path)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    loaded = Classifier.load_from_checkpoint(tmp_path / "own.ckpt", net=resnet8(4))
    assert (loaded.label_smoothing, loaded.example_input_array.shape) == (0.1, example.shape)
    with pytest.raises(ValueError, match="training needs an optimizer and a schedule"):
        fit(loaded, loader, tmp_path)
    again = Classifier.load_from_checkpoint(
        tmp_path / "own.ckpt", net=resnet8(4), optimizer=torch.optim.SGD, schedule=cosine, label_smoothing=0.2
    )
    before = copy.deepcopy(again.net.state_dict())
    fit(again, loader, tmp_path)
    assert again.label_smoothing == 0.2
    assert not torch.equal(again.net.state_dict()["fc.weight"], before["fc.weight"])


def fit(module: Classifier, loader: DataLoader[Any], folder: Path, callbacks: Sequence[L.Callback] = ()) -> L.Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    quiet |= {"callbacks": [*callbacks], "log_every_n_steps": 1}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, **quiet)
    trainer.fit(module, loader, [loader, loader])
    return trainer


def test_a_checkpoint_from_before_the_arguments_were_kept_loads(trained: Trained, tmp_path: Path) -> None:
    checkpoint = torch.load(last(trained(*SMALL)), weights_only=True)
    del checkpoint["hyper_parameters"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    assert isinstance(Classifier.load_from_checkpoint(tmp_path / "old.ckpt"), Classifier)
    del checkpoint["callbacks"]["RecordJob"]
    torch.save(checkpoint, tmp_path / "older.ckpt")
    with pytest.raises(ValueError, match=r"older\.ckpt: its network is not named: give a new one"):
        Classifier.load_from_checkpoint(tmp_path / "older.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({Binarize(skip=["fc.*"]).state_key: {}}, "it holds the real weights of a network that ends binary"),
        ({"ScalingFactors": {"values": torch.ones(3)}}, "multiplied by factors until it is pruned"),
    ],
)
def test_weights_that_are_not_those_of_the_network_are_refused(
    change: dict[str, Any], message: str, trained: Trained, tmp_path: Path
) -> None:
    checkpoint = torch.load(last(trained(*SMALL)), weights_only=True)
    checkpoint["callbacks"] |= change
    torch.save(checkpoint, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=rf"last\.ckpt: .*{message}"):
        Classifier.load_from_checkpoint(tmp_path / "last.ckpt")


def test_a_network_whose_norms_knew_of_masks_is_refused(tmp_path: Path) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4))

    example = torch.randn(4, 3, 2, 2)
    loader = DataLoader(TensorDataset(example, torch.arange(4)), 1)
    module = Classifier(network(), torch.optim.SGD, cosine, 4, example=example[:2])
    pruner = Pruner(Norm(p=1), Channels(), Uniform(), Cubic(rate=0.5, start=0, end=0.75))
    trainer = fit(module, loader, tmp_path, callbacks=[Pruning(pruner), Shrink(), Early(tmp_path / "masked.ckpt")])
    with pytest.raises(ValueError, match=r"masked\.ckpt: 2 counts only channels that are not masked, .*finish"):
        Classifier.load_from_checkpoint(tmp_path / "masked.ckpt", net=network())
    trainer.save_checkpoint(tmp_path / "small.ckpt")
    small = Classifier.load_from_checkpoint(tmp_path / "small.ckpt", net=network())
    assert torch.equal(small(example), module(example))


class Early(L.Callback):
    """Saves while channels are masked, before they are removed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    "change", [{"state_dict": None}, {"callbacks": []}, {"hyper_parameters": None}, {"hyper_parameters": {"lr": 1}}]
)
def test_a_checkpoint_with_other_content_is_refused_in_a_line(
    change: dict[str, Any], trained: Trained, tmp_path: Path
) -> None:
    torch.save(torch.load(last(trained(*SMALL)), weights_only=True) | change, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=r"odd\.ckpt: it is damaged, or no checkpoint of a Classifier"):
        Classifier.load_from_checkpoint(tmp_path / "odd.ckpt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (resnet8().state_dict(), "is no checkpoint of Lightning: load its weights with load_state_dict"),
        (resnet8(), "it holds narrow.resnet8|it holds prunelab.* beside tensors, and code in a file is never run"),
        (b"PK\x03\x04" + bytes(99), "the file is damaged"),
    ],
)
def test_other_files_are_refused_in_a_line(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=message) as error:
        Classifier.load_from_checkpoint(path)
    assert "\n" not in str(error.value)
