"""SynFlow: the flow from input to output through a weight, without data (Tanaka et al. 2020)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from prunelab.core.context import Context
from prunelab.core.criterion import Criterion
from prunelab.core.network.filters import by_filter, transposed_groups
from prunelab.core.network.preserve import preserve_state
from prunelab.core.network.temporary import temporary_tensors
from prunelab.core.numbers.float64 import double, float64_device
from prunelab.core.types import Scores

# Names of functions. ReLU, leaky ReLU, ELU and SELU are linear on positive inputs already.
ACTIVATIONS = {"relu6", "hardtanh", "hardswish", "silu", "gelu", "mish", "softplus", "tanh", "softsign"}
GATES = {"sigmoid", "hardsigmoid"}
PRODUCTS = {"mul", "rmul", "imul", "multiply"}
ROUNDING = 1e-9  # of the largest score


@dataclass(frozen=True)
class SynFlow(Criterion):
    """|w| * dR/d|w|, R the sum of outputs for an input of ones where every parameter is replaced by |parameter|.

    In float64 and in eval mode, with running means of 0: R is a product over the depth of the network and exceeds
    float32. Activations are `Linearised`, as the derivation asks (sec. 4, theorem 1). Prune in many passes, or whole
    layers are removed (sec. 5). Raises ValueError without an example input, where even float64 overflows, where most
    scores are equal, and where they are negative, as with layer and group norms.
    """

    def __call__(self, ctx: Context) -> Scores:
        if ctx.example is None:
            raise ValueError("SynFlow needs the shape of an input: set example_input_array on the LightningModule")
        inputs = ctx.example if isinstance(ctx.example, tuple) else (ctx.example,)
        device = float64_device(next(iter(ctx.params.values())).device)
        ones = tuple(torch.ones_like(x[:1], dtype=torch.float64, device=device) for x in inputs)
        state = {name: _positive(name, tensor) for name, tensor in _state(ctx)}
        for name in ctx.params:
            state[name].requires_grad_()
        with (
            preserve_state(ctx.net),
            temporary_tensors(ctx.net, state),
            torch.enable_grad(),
            torch.compiler.set_stance("force_eager"),
        ):
            weights = [ctx.net.get_parameter(name) for name in ctx.params]
            with Linearised():
                flow = ctx.net(*ones).sum()
            slopes = torch.autograd.grad(flow, weights)
        if not flow.isfinite():
            raise ValueError(f"SynFlow: the flow through {type(ctx.net).__name__} is {flow.item()}, beyond float64")
        scores = {name: (w * g).detach() for name, w, g in zip(ctx.params, weights, slopes, strict=True)}
        _check(ctx, scores)
        return ctx.all_reduce_mean(scores)


class Linearised(TorchFunctionMode):
    """Positive inputs pass activations unchanged, as they pass ReLU, so that nothing saturates.

    A gate has the value 1, as for large inputs, and passes on the flow it receives. Of the flow into a product of two
    activations each gets half: so it is the same through all layers, and those of a gate have their part.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", "").strip("_"), kwargs or {}
        if name in ACTIVATIONS or name in GATES:
            x = args[0] if args else kwargs["input"]
            return x if name in ACTIVATIONS else 1 + (x - x.detach()) / x.detach().masked_fill(x == 0, 1)
        factors = [factor for factor in args if isinstance(factor, Tensor) and factor.requires_grad]
        if name in PRODUCTS and len(factors) == 2:
            a, b = factors
            return (a * b.detach() + a.detach() * b) / 2
        return func(*args, **kwargs)


def _check(ctx: Context, scores: Scores) -> None:
    """Raises ValueError for negative scores, and if most weights have the score of all others of their filter."""
    kind, alike, transposed = type(ctx.net).__name__, {}, transposed_groups(ctx.net)
    for name, score in scores.items():
        if score.min() < -ROUNDING * score.max():
            raise ValueError(
                f"SynFlow: {name} of {kind} scores below 0, and flow is positive: a layer or group norm subtracts the "
                "mean of its input; choose another criterion"
            )
        filters, weights = (
            by_filter(x, transposed.get(name)).flatten(0, 1).flatten(1) for x in (score, ctx.params[name])
        )
        alive = weights != 0  # others have been pruned
        same = (filters == filters[:, :1]).all(1) & (filters.shape[1] > 1)
        alike[name] = int(alive[same].sum())
    share = sum(alike.values()) / sum(score.numel() for score in scores.values())
    if share > 0.5:
        name = max(alike, key=alike.__getitem__)
        raise ValueError(
            f"SynFlow: {share:.0%} of the weights of {kind} score as all others of their filter, most of them in "
            f"{name}, so position would decide: an activation saturates, or weights are 0; choose another criterion"
        )


def _state(ctx: Context) -> list[tuple[str, Tensor]]:
    return [*ctx.net.named_parameters(), *ctx.net.named_buffers()]


def _positive(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().to(float64_device(tensor.device))
    value = double(tensor.detach()).abs()
    return torch.zeros_like(value) if name.endswith("running_mean") else value
