"""Scoring sees what training sees and leaves no trace in it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.core.context import Batch, Context
from prunelab.core.network.preserve import preserve_state
from prunelab.core.network.prunable import layer_weights


def net(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(*layers).double()


def data(*sizes: int) -> list[Batch]:
    g = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, 2, 4, 4, generator=g, dtype=torch.float64), torch.randint(3, (n,), generator=g)) for n in sizes
    ]


def context(model: nn.Module, **more: Any) -> Context:
    return Context(model, layer_weights(model), torch.Generator().manual_seed(0), **more)


def plain(model: nn.Module, batches: list[Batch], temperature: float = 1.0) -> dict[str, Tensor]:
    """What training would put into `.grad`, accumulating over the batches."""
    model = copy.deepcopy(model).train()
    model.zero_grad()
    for inputs, targets in batches:
        (F.cross_entropy(model(inputs) / temperature, targets) / len(batches)).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("temperature", [1.0, 7.0])
def test_gradients_are_those_of_training_mode_averaged_over_batches(temperature: float) -> None:
    model, batches = net().eval(), data(5, 3, 8)
    with torch.no_grad():  # as Pruner calls it
        result = context(model).gradients(batches, temperature)
    expected = plain(model, batches, temperature)
    assert list(result) == ["0.weight", "5.weight"]
    for name, slope in result.items():
        assert not slope.requires_grad
        torch.testing.assert_close(slope, expected[name], rtol=1e-10, atol=1e-14)


def test_pruned_weights_have_the_gradient_they_would_grow_by() -> None:
    model, batches = net(), data(6)
    for p in layer_weights(model).values():
        p.data[torch.rand(p.shape, generator=torch.Generator().manual_seed(3)) < 0.7] = 0
    expected = plain(model, batches)
    for name, slope in context(model).gradients(batches).items():
        gone = model.get_parameter(name) == 0
        assert gone.sum() > 10
        assert slope[gone].all()
        torch.testing.assert_close(slope[gone], expected[name][gone], rtol=1e-10, atol=1e-14)


def test_the_loss_is_the_one_that_was_given() -> None:
    model, batches = net(), data(4)
    result = context(model, loss=lambda out, _: 3 * out.sum()).gradients(batches)
    weight = copy.deepcopy(model).train()
    (3 * weight(batches[0][0]).sum()).backward()
    torch.testing.assert_close(result["5.weight"], weight[5].weight.grad)


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.a(x) + self.b(y)


@pytest.mark.parametrize("kind", [tuple, list])
def test_several_inputs_are_the_arguments_of_a_call(kind: type) -> None:
    model, x, y, targets = Sum(), torch.randn(6, 4), torch.randn(6, 5), torch.randint(3, (6,))
    F.cross_entropy(model(x, y), targets).backward()
    ctx = context(model, example=(x[:1], y[:1]))
    for name, slope in ctx.gradients([(kind([x, y]), targets)]).items():
        torch.testing.assert_close(slope, model.get_parameter(name).grad)
    norms = ctx.input_norms([(kind([x, y]), targets)])
    torch.testing.assert_close(norms["a.weight"], x.norm(dim=0, keepdim=True))
    torch.testing.assert_close(norms["b.weight"], y.norm(dim=0, keepdim=True))


def traces(model: nn.Module) -> dict[str, Tensor]:
    modes = torch.tensor([m.training for m in model.modules()])
    grads = {f"{name}.grad": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    state = {name: t.clone() for name, t in model.state_dict().items()}
    streams = {"rng": torch.get_rng_state(), "grad mode": torch.tensor(torch.is_grad_enabled())}
    return streams | {"modes": modes} | grads | state


def raises(outputs: Tensor, targets: Tensor) -> Tensor:
    if len(targets) == 3:  # at the second batch
        raise KeyError("loss")
    return F.cross_entropy(outputs, targets)


def cut_off(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets).detach()  # forward works, the derivative does not


@pytest.mark.parametrize("loss", [F.cross_entropy, raises, cut_off])
@pytest.mark.parametrize("call", [Context.gradients, lambda ctx, b: ctx.curvature(ctx.params, b)])
@pytest.mark.parametrize("grad_mode", [True, False])
def test_a_scoring_leaves_no_trace_also_when_it_fails(loss: Callable[..., Tensor], call: Any, grad_mode: bool) -> None:
    model = net(dropout=0.5)
    model(torch.randn(4, 2, 4, 4, dtype=torch.float64)).sum().backward()
    model[0].eval()
    model[1].eval()
    model[0].bias.grad = None
    with torch.set_grad_enabled(grad_mode):
        before = traces(model)
        assert {"1.num_batches_tracked", "1.running_mean", "5.weight.grad"} <= before.keys()
        if loss is F.cross_entropy:
            call(context(model, loss=loss), data(5, 3))
            after = traces(model)
        else:
            with pytest.raises((KeyError, RuntimeError)):  # seen while the exception is still being handled
                try:
                    call(context(model, loss=loss), data(5, 3))
                except Exception:
                    after = traces(model)
                    raise
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("training", [False, True])
def test_a_glance_takes_gradients_in_training_mode_alone(training: bool) -> None:
    model = net()
    for outside in (True, False):
        with torch.set_grad_enabled(outside), preserve_state(model, training):
            assert torch.is_grad_enabled() == training
            assert all(m.training == training for m in model.modules())


def test_a_weight_that_is_frozen_later_and_one_that_is_not_used_score_zero() -> None:
    model, batches = net(), data(5)
    expected = plain(model, batches)
    model[0].weight.requires_grad_(False)
    model.spare = nn.Linear(2, 2).double()
    model.forward = lambda x: model[5](model[:5](x))
    for result in (context(model).gradients(batches), context(model).curvature(expected | model_ones(model), batches)):
        assert result.keys() == {"0.weight", "5.weight", "spare.weight"}
        assert not result["0.weight"].any()
        assert not result["spare.weight"].any()
        assert result["5.weight"].all()
    torch.testing.assert_close(context(model).gradients(batches)["5.weight"], expected["5.weight"])
    assert not model[0].weight.requires_grad


def model_ones(model: nn.Module) -> dict[str, Tensor]:
    return {name: torch.ones_like(p) for name, p in layer_weights(model).items()}


def test_without_training_data_the_remedy_is_named() -> None:
    with pytest.raises(ValueError, match=r"give Pruner.attach a function to draw= batches"):
        context(net()).batches(1)


def test_batches_are_drawn_by_count_from_the_contexts_own_stream() -> None:
    requests = []

    def draw(count: int, generator: torch.Generator) -> list[Batch]:
        requests.append((count, generator))
        return data(*[2] * count)

    ctx = context(net(), draw=draw)
    assert len(ctx.batches(3)) == 3
    assert requests == [(3, ctx.generator)]


def test_dropout_draws_the_same_in_gradients_and_curvature_of_one_scoring() -> None:
    """Hv is the derivative of the gradient along v; across other draws the difference would be no derivative."""
    model, batches, eps = net(dropout=0.5), data(5, 3), 1e-6
    ctx = context(model)
    g = torch.Generator().manual_seed(2)
    vector = {name: torch.randn(p.shape, generator=g, dtype=torch.float64) for name, p in ctx.params.items()}
    result = ctx.curvature(vector, batches, 2.0)

    def moved(by: float) -> dict[str, Tensor]:
        with torch.no_grad():
            for name, p in ctx.params.items():
                p += by * vector[name]
            slopes = ctx.gradients(batches, 2.0)
            for name, p in ctx.params.items():
                p -= by * vector[name]
        return slopes

    ahead, behind = moved(eps), moved(-eps)
    for name, bent in result.items():
        assert not bent.requires_grad
        torch.testing.assert_close(bent, (ahead[name] - behind[name]) / (2 * eps), rtol=1e-5, atol=1e-8)


def test_dropout_draws_anew_for_each_batch_and_with_the_stream_of_training() -> None:
    model, (batch,) = net(dropout=0.5), data(5)
    once, twice = context(model).gradients([batch]), context(model).gradients([batch, batch])
    assert not torch.equal(once["5.weight"], twice["5.weight"])
    torch.manual_seed(99)
    assert not torch.equal(once["5.weight"], context(model).gradients([batch])["5.weight"])


def test_what_is_pulled_is_averaged_over_the_processes_that_train_together() -> None:
    """Here with one whose gradients are all 0: what is pulled is half, and the Hessian's vector with it."""
    model, batches = net(), data(5)
    together = context(model, average=lambda tensors: [tensor.div_(2) for tensor in tensors])
    with torch.no_grad():
        alone = context(model).gradients(batches)
        both = together.gradients(batches)
        bent = context(model).curvature(alone, batches)
        half = together.curvature(alone, batches)
    for name in alone:
        torch.testing.assert_close(both[name], alone[name] / 2)
        torch.testing.assert_close(half[name], bent[name] / 2)


def test_a_buffer_that_the_network_replaces_is_put_back() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.register_buffer("mean", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.mean = 0.9 * self.mean + x.mean(0)
            return self.layer(x - self.mean)

    net = Mean()
    before = net.mean
    with preserve_state(net, training=True):
        net(torch.ones(4, 2))
        assert net.mean.all()
    assert net.mean is before
    assert not before.any()
