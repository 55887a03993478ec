"""Waiting policies and numbers of threads, on an idle machine and beside busy processes.

    python bench/threads.py --rounds 5

Training steps of ResNet-8 at batch 64 in processes that live throughout; each round lets every kind train in turn,
beside 0, 1, 2 processes that only count, started and ended here. Prints images per second, and the median over
rounds of the ratio to the first kind in the same round. On a machine that others use, "0 busy" is not idle.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
KINDS: dict[str, tuple[int, dict[str, str]]] = {  # processes side by side, and their environment
    "all threads, as OpenMP is": (1, {}),
    "all threads, spin 20000": (1, {"GOMP_SPINCOUNT": "20000"}),  # what prunelab sets
    "all threads, spin 1000": (1, {"GOMP_SPINCOUNT": "1000"}),
    "all threads, passive": (1, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "one thread": (1, {"OMP_NUM_THREADS": "1"}),
    "two jobs of one thread": (2, {"OMP_NUM_THREADS": "1"}),
}
BATCH = 64


def work() -> None:
    """Trains as many steps as each line of standard input says, and prints a line."""
    import torch
    import torch.nn.functional as F

    from prunelab.models.cifar_resnet import resnet8

    net = resnet8().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    x = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,))
    for line in sys.stdin:
        for _ in range(int(line)):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        print("done", flush=True)


def start(environment: dict[str, str]) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    return subprocess.Popen([sys.executable, __file__, "--work"], env=kept | environment, **pipes)


def images_per_second(processes: list[subprocess.Popen[str]], steps: int) -> float:
    began = time.perf_counter()
    for process in processes:
        print(steps, file=process.stdin, flush=True)
    for process in processes:
        process.stdout.readline()
    return len(processes) * steps * BATCH / (time.perf_counter() - began)


@contextmanager
def busy(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of one process in its turn")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work()
        return
    kinds = {name: [start(environment) for _ in range(count)] for name, (count, environment) in KINDS.items()}
    try:
        for processes in kinds.values():
            images_per_second(processes, 2)  # imports
        for others in (0, 1, 2):
            speeds: dict[str, list[float]] = {name: [] for name in kinds}
            with busy(others):
                for i in range(args.rounds):
                    for name, processes in list(kinds.items())[:: 1 if i % 2 else -1]:
                        speeds[name].append(images_per_second(processes, args.steps))
            report(others, speeds)
    finally:
        for processes in kinds.values():
            for process in processes:
                process.communicate()


def report(others: int, speeds: dict[str, list[float]]) -> None:
    first = next(iter(speeds.values()))
    print(f"{others} busy processes, {os.cpu_count()} cores, n = {len(first)}")
    for name, each in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(each, first, strict=True))
        spread = f"({min(each):.0f} to {max(each):.0f})"
        print(f"  {name:28}{statistics.median(each):6.0f} images/s {spread:18} {ratio:.2f} of the first", flush=True)


if __name__ == "__main__":
    main()
