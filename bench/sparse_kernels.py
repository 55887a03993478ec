"""Speed-up of 2:4 weights on sparse tensor cores, for linear layers of several widths."""

import torch
from torch import nn

from prunelab.core.allocation import Uniform
from prunelab.core.granularity import NM
from prunelab.core.pruner import Pruner
from prunelab.core.schedule import Rounds
from prunelab.core.time import Progress
from prunelab.criteria.norm import Norm
from prunelab.measure.semi_structured import semi_structured

BATCH = 1024


def main() -> None:
    print(f"{'width':>6} {'dense ms':>9} {'2:4 ms':>9} {'ratio':>6}   batch {BATCH}, float16")
    for width in (512, 1024, 2048, 4096):
        torch.manual_seed(0)
        net = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(4)))
        pruner = Pruner(Norm(), NM(m=4), Uniform(), Rounds(rate=0.5, start=0.0))
        pruner.attach(net)
        pruner.update(Progress(step=0, total=1, epoch=1))
        times = semi_structured(net, torch.randn(BATCH, width))
        print(f"{width:>6} {times.dense_ms:>9.3f} {times.sparse_ms:>9.3f} {times.ratio:>6.2f}")
        if times.left_dense:
            print(f"       left dense: {', '.join(times.left_dense)}")


if __name__ == "__main__":
    main()
