"""Operations of exported networks, grouped by what they do to channels."""

from typing import Any

import torch

aten = torch.ops.aten

# Each position of the result depends on the same position of the inputs, which are broadcast. Nothing that is infinite
# at 0, such as log: a masked channel would become NaN, which the shrunk network would not show.
POSITIONWISE = {
    aten.relu, aten.relu_, aten.relu6, aten.relu6_, aten.hardtanh, aten.hardtanh_, aten.leaky_relu, aten.leaky_relu_,
    aten.elu, aten.elu_, aten.selu, aten.selu_, aten.celu, aten.celu_, aten.gelu, aten.silu, aten.silu_, aten.mish,
    aten.mish_, aten.sigmoid, aten.sigmoid_, aten.hardsigmoid, aten.hardsigmoid_, aten.hardswish, aten.hardswish_,
    aten.tanh, aten.tanh_, aten.softplus, aten.threshold, aten.abs, aten.neg, aten.exp, aten.square,
    aten.clamp, aten.clamp_, aten.clamp_min, aten.clamp_max, aten.sign,
    aten.dropout, aten.dropout_, aten.alpha_dropout, aten.feature_dropout, aten.feature_alpha_dropout,
    aten.add, aten.add_, aten.sub, aten.sub_, aten.rsub, aten.mul, aten.mul_, aten.maximum,
    aten.minimum, aten.where, aten.lerp, aten.addcmul, aten.to, aten.type_as, aten.clone, aten.contiguous,
    aten.detach, aten.alias, aten.lift_fresh_copy, aten.zeros_like, aten.ones_like,
}  # fmt: skip
POOLINGS = {  # over how many of the last axes
    aten.max_pool1d: 1, aten.max_pool2d: 2, aten.max_pool3d: 3, aten.avg_pool1d: 1, aten.avg_pool2d: 2,
    aten.avg_pool3d: 3, aten.adaptive_avg_pool1d: 1, aten.adaptive_avg_pool2d: 2, aten.adaptive_avg_pool3d: 3,
    aten.adaptive_max_pool1d: 1, aten.adaptive_max_pool2d: 2, aten.adaptive_max_pool3d: 3,
    aten.upsample_nearest1d: 1, aten.upsample_nearest2d: 2, aten.upsample_nearest3d: 3, aten.upsample_linear1d: 1,
    aten.upsample_bilinear2d: 2, aten.upsample_bicubic2d: 2, aten.upsample_trilinear3d: 3,
}  # fmt: skip
REDUCTIONS = {aten.mean, aten.sum, aten.amax, aten.amin}
MOVEMENTS = {
    aten.view, aten.reshape, aten.flatten, aten.unflatten, aten.permute, aten.transpose, aten.t, aten.movedim,
    aten.unsqueeze, aten.squeeze, aten.expand, aten.expand_as, aten.select, aten.narrow, aten.flip, aten.roll,
    aten.stack, aten.unbind, aten.reshape_as, aten.view_as, aten.swapaxes, aten.swapdims, aten.moveaxis, aten.ravel,
    aten.repeat, aten.tile, aten.numpy_T, aten.mT,
}  # fmt: skip
LIKE = {aten.expand_as, aten.reshape_as, aten.view_as, aten.type_as, aten.to}  # the second input: only its form counts
BY_TENSORS = {aten.index, aten.embedding}  # the second input holds indices
INDEXING = {aten.slice, aten.cat, aten.concat, *BY_TENSORS}  # movements too, of parameters
CONVOLUTIONS = {aten.conv1d, aten.conv2d, aten.conv3d}
TRANSPOSED = {aten.conv_transpose1d, aten.conv_transpose2d, aten.conv_transpose3d}
NORMS = {aten.batch_norm, aten.group_norm, aten.instance_norm}


def packet_of(node: Any) -> Any:
    """The operation of a call, whatever its arguments (aten.add, of aten.add.Tensor); that of other nodes is a name."""
    return getattr(node.target, "overloadpacket", node.target)
