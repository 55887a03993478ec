"""SynFlow: the flow from input to output through a weight, without data (Tanaka et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.float64 import double, float64_device
from prunelab.core.preserve import preserve_state
from prunelab.core.types import Scores


@dataclass(frozen=True)
class SynFlow(Criterion):
    """|w| * dR/d|w|, R the sum of outputs for an input of ones where every parameter is replaced by |parameter|.

    In float64 and in eval mode, with running means of 0: R is a product over the depth of the network and exceeds
    float32. Prune in many passes, or whole layers are removed (sec. 5). Raises ValueError without an example
    input, or where even float64 overflows.
    """

    def __call__(self, ctx: Context) -> Scores:
        if ctx.example is None:
            raise ValueError("SynFlow needs the shape of an input: set example_input_array on the LightningModule")
        inputs = ctx.example if isinstance(ctx.example, tuple) else (ctx.example,)
        device = float64_device(next(iter(ctx.params.values())).device)
        ones = tuple(torch.ones_like(x[:1], dtype=torch.float64, device=device) for x in inputs)
        state = {name: _positive(name, tensor) for name, tensor in _state(ctx)}
        weights = [state[name].requires_grad_() for name in ctx.params]
        with preserve_state(ctx.net), torch.enable_grad(), torch.compiler.set_stance("force_eager"):
            flow = functional_call(ctx.net, state, ones).sum()
            slopes = torch.autograd.grad(flow, weights)
        if not flow.isfinite():
            raise ValueError(f"SynFlow: the flow through {type(ctx.net).__name__} is {flow.item()}, beyond float64")
        return ctx.all_reduce_mean(
            {name: (w * g).detach() for name, w, g in zip(ctx.params, weights, slopes, strict=True)}
        )


def _state(ctx: Context) -> list[tuple[str, Tensor]]:
    return [*ctx.net.named_parameters(), *ctx.net.named_buffers()]


def _positive(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().to(float64_device(tensor.device))
    value = double(tensor.detach()).abs()
    return torch.zeros_like(value) if name.endswith("running_mean") else value
