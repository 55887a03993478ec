"""Weight initialization: He et al. 2015 (arXiv:1502.01852); Glorot and Bengio 2010."""

from collections.abc import Callable

from torch import Tensor, nn


def he_normal_(net: nn.Module) -> None:
    """Fills convolutions from N(0, 2 / fan_out) and sets every bias to 0, in place.

    As in the code of the ResNet authors, Linear weights keep the framework's initialization, batch norms (1, 0).
    fan_out is PyTorch's: k * k times all output channels, also of a depthwise convolution.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    _zero_biases_(net)


def glorot_uniform_(net: nn.Module) -> None:
    """Fills convolutions and Linears from U(-a, a), a^2 = 6 / (fan_in + fan_out), in place; biases become 0."""
    _fill_weights_(net, nn.init.xavier_uniform_)


def glorot_normal_(net: nn.Module) -> None:
    """Fills convolutions and Linears from N(0, 2 / (fan_in + fan_out)), in place; biases become 0."""
    _fill_weights_(net, nn.init.xavier_normal_)


def _fill_weights_(net: nn.Module, fill_: Callable[[Tensor], Tensor]) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fill_(layer.weight)
    _zero_biases_(net)


def _zero_biases_(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
