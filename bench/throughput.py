"""Training throughput, beside a plain loop, a DataLoader and torch.nn.utils.prune.

Images per second of `keras_cnn` at batch 128, and of a network of about a millisecond a step, where Python shows, at
batch 8, on random 32x32 images: one epoch each in turns, so that a slower machine slows all down alike. Prints medians
of the ratios within a round; the target of each is in its line.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from prunelab.callbacks import Pruning
from prunelab.core.allocation import Uniform
from prunelab.core.granularity import Weight
from prunelab.core.network.prunable import prunable_weights
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.criteria.norm import Norm
from prunelab.data.augment import PadCropFlip
from prunelab.data.batches import Batches
from prunelab.data.images import Images
from prunelab.data.normalise import Normalise
from prunelab.data.sampling import Sampling
from prunelab.lit.classifier import Classifier
from prunelab.lit.idle_hooks import NoProfiler, skip_idle_hooks
from prunelab.lit.schedules import one_cycle
from prunelab.models.keras_cnn import KerasCNN

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
BATCH, TINY_BATCH = 128, 8


def sgd(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)


def net() -> nn.Module:
    torch.manual_seed(0)
    return KerasCNN().to(memory_format=torch.channels_last)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.Conv2d(8, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).to(
        memory_format=torch.channels_last
    )


def batches(images: Images, size: int = BATCH) -> Batches:
    return Batches(images, Sampling(size, shuffle=True, drop_last=True), Normalise(MEAN, STD, True), PadCropFlip())


class Epochs(L.Callback):
    """Seconds of training of each epoch, without evaluation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def lightning(loader: object, callbacks: list[L.Callback], module: nn.Module, **options: object) -> float:
    """One epoch in a Lightning Trainer, in seconds."""
    timer = Epochs()
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, timer], num_sanity_val_steps=0, limit_val_batches=0,
        **options,
    )  # fmt: skip
    if options:
        skip_idle_hooks(trainer)
    trainer.fit(Classifier(module, sgd, one_cycle), loader)
    return timer.seconds[0]


def prunelab(loader: Batches, callbacks: list[L.Callback], module: nn.Module) -> float:
    """The same as a job has it."""
    return lightning(loader, callbacks, module, profiler=NoProfiler(), log_every_n_steps=0)


def plain(loader: Batches, module: nn.Module) -> float:
    """The same work in a hand-written loop: no framework, no metrics."""
    optimizer = sgd(module.parameters())
    schedule = one_cycle(optimizer, len(loader))
    module.train()
    began = time.perf_counter()
    for x, y in loader:
        loss = F.cross_entropy(module(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return time.perf_counter() - began


def usp() -> Pruning:
    # Masks throughout and one scoring in an epoch of 50 steps; in ten epochs of CIFAR-10 usp scores every 70 steps.
    return Pruning(Pruner(Norm(), Weight(), Uniform(), Rounds(rate=0.8, start=0.0)))


def torch_pruned() -> nn.Module:
    torch.manual_seed(0)
    module = KerasCNN()
    for name in prunable_weights(module):  # before the change of layout, which it does not survive
        prune.l1_unstructured(module.get_submodule(name.removesuffix(".weight")), "weight", 0.8)
    return module.to(memory_format=torch.channels_last)


def pil_loader(root: Path, images: Images) -> DataLoader:
    """What a torchvision user has: image files, PIL transforms, two workers."""
    for i, (x, y) in enumerate(zip(images.x, images.y.tolist(), strict=True)):
        (root / str(y)).mkdir(exist_ok=True)
        Image.fromarray(x.permute(1, 2, 0).numpy()).save(root / str(y) / f"{i}.png")
    steps = [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    data = datasets.ImageFolder(str(root), transforms.Compose([*steps, transforms.Normalize(MEAN, STD)]))
    return DataLoader(data, BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)


def measure(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, in turns, after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(rounds + 1):
        # Forwards and backwards in turn, so that none always runs after the same one.
        for name, run in list(contestants.items())[:: 1 if i % 2 else -1]:
            took = run()
            if i:
                seconds[name].append(took)
        print(f"round {i} of {rounds}" + ("" if i else ", to warm up"), flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6400, help="an epoch's")
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (args.images, 3, 32, 32), dtype=torch.uint8, generator=g)
    images = Images(x, torch.randint(0, 10, (args.images,), generator=g))
    with tempfile.TemporaryDirectory() as folder:
        files = pil_loader(Path(folder), images)
        seconds = measure(
            {
                "plain loop": lambda: plain(batches(images), net()),
                "prunelab, usp 0.8": lambda: prunelab(batches(images), [usp()], net()),
                "prunelab, dense": lambda: prunelab(batches(images), [], net()),
                "Lightning, DataLoader": lambda: lightning(files, [], net()),
                "torch.nn.utils.prune": lambda: plain(batches(images), torch_pruned()),
                "tiny, plain loop": lambda: plain(batches(images, TINY_BATCH), tiny()),
                "tiny, prunelab, usp 0.8": lambda: prunelab(batches(images, TINY_BATCH), [usp()], tiny()),
                "tiny, prunelab, dense": lambda: prunelab(batches(images, TINY_BATCH), [], tiny()),
            },
            args.rounds,
        )
    print(f"\n{torch.__version__}, {torch.get_num_threads()} threads, {args.images} images, {args.rounds} rounds")
    count = args.images // BATCH * BATCH
    for name, took in seconds.items():
        rates = sorted(count / s for s in took)
        print(f"{name:24}{statistics.median(rates):8.0f} images/s   ({rates[0]:.0f} to {rates[-1]:.0f})")

    print()
    for a, b, target in (
        ("prunelab, usp 0.8", "plain loop", "0.98"),
        ("prunelab, dense", "Lightning, DataLoader", "1.4"),
        ("prunelab, usp 0.8", "prunelab, dense", "0.98"),
        ("torch.nn.utils.prune", "plain loop", "none"),
        ("tiny, prunelab, usp 0.8", "tiny, plain loop", "0.95"),
        ("tiny, prunelab, usp 0.8", "tiny, prunelab, dense", "0.98"),
    ):
        ratios = [y / x for x, y in zip(seconds[a], seconds[b], strict=True)]
        spread = f"({min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)})"
        print(f"{f'{a} over {b}':54}{statistics.median(ratios):.3f}   {spread}   target {target}")


if __name__ == "__main__":
    main()
