"""Images a second of evaluation by the size of its batches, on a CPU: where a batch does not fit, pages are faulted in.

Networks at their initial weights on random 32x32 images of channels-last float32, or bfloat16 under autocast, one
thread, 1,000 images for each size in turns. Prints medians of images per second of CPU time, which other processes
disturb less than the clock.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from prunelab.models.registry import build

NETS = ["keras_cnn.KerasCNN", "cifar_resnet.resnet8", "cifar_resnet.resnet20", "densenet.densenet16", "lenet.LeNet300"]
SIZES = (32, 64, 125, 250, 500, 1000)
IMAGES = 1000
PRECISIONS = {"float32": False, "bfloat16": True}


@torch.inference_mode()
def rate(net: nn.Module, images: torch.Tensor, size: int, bf16: bool) -> float:
    begin = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for batch in images.split(size):
            net(batch)
    return len(images) / (time.process_time() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=NETS)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.randn(IMAGES, 3, 32, 32).to(memory_format=torch.channels_last)
    print(f"{'images/s of CPU time':<30}", *(f"{size:>7}" for size in SIZES))
    for name in args.models:
        net = build(name, {}).eval().to(memory_format=torch.channels_last)
        for precision, bf16 in PRECISIONS.items():
            rate(net, images[:64], 32, bf16)  # chooses kernels
            rounds = [[rate(net, images, size, bf16) for size in SIZES] for _ in range(args.rounds)]
            medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
            print(f"{name:<21} {precision:<8}", *(f"{value:>7.0f}" for value in medians), flush=True)


if __name__ == "__main__":
    main()
