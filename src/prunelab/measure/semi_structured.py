"""Latency of 2:4 weights on sparse tensor cores, by PyTorch's semi-structured kernels."""

import copy
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SemiStructured:
    """Median milliseconds of a forward pass, in turns, and the layers that were converted or not."""

    dense_ms: float
    sparse_ms: float
    converted: tuple[str, ...]
    left_dense: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Dense over sparse: above 1, the sparse kernels are faster."""
        return self.dense_ms / self.sparse_ms


def two_four(net: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers with at most 2 non-zeros in every 4 adjacent weights of a row.

    PyTorch has no semi-structured kernel for convolutions.
    """
    linear = {name: m for name, m in net.named_modules() if isinstance(m, nn.Linear) and m.in_features % 4 == 0}
    return {name: m for name, m in linear.items() if bool((m.weight.view(-1, 4) != 0).sum(1).le(2).all())}


def semi_structured(net: nn.Module, example: Tensor, rounds: int = 50) -> SemiStructured:
    """Times `net` on `example`, both in float16 on the GPU, beside a copy with compressed 2:4 weights.

    A layer whose shape the kernels do not support stays dense and is named. Raises RuntimeError without a GPU of
    compute capability 8.0 or more, and ValueError where no linear layer is 2:4.
    """
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        raise RuntimeError("2:4 kernels need a GPU with sparse tensor cores, of compute capability 8.0 or more")
    if not two_four(net):
        raise ValueError(f"{type(net).__name__}: no linear layer is 2:4; prune it with prune=nm rate=0.5")
    dense = copy.deepcopy(net).eval().half().cuda()
    sparse = copy.deepcopy(dense)
    converted, left = [], []
    for name, layer in two_four(sparse).items():
        try:
            layer.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(layer.weight.detach()), False)
            converted.append(name)
        except RuntimeError:
            left.append(name)
    left += [n for n, m in dense.named_modules() if isinstance(m, nn.Linear | nn.Conv2d) and n not in converted + left]
    x = example.half().cuda()
    with torch.no_grad():
        torch.testing.assert_close(sparse(x), dense(x), rtol=1e-2, atol=1e-2)
    times: dict[nn.Module, list[float]] = {dense: [], sparse: []}
    with torch.no_grad():
        for _ in range(rounds + 5):  # the first 5 are warm-up
            for model, milliseconds in times.items():
                milliseconds.append(_milliseconds(model, x))
    return SemiStructured(median(times[dense][5:]), median(times[sparse][5:]), tuple(converted), tuple(left))


def _milliseconds(net: nn.Module, x: Tensor) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    net(x)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
