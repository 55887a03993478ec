"""nn.MultiheadAttention without some of its heads, or of the channels around it: torch's own wants all or none."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SlimAttention(nn.MultiheadAttention):
    """Self-attention with the parameters, names and arguments of nn.MultiheadAttention, whatever their sizes.

    `num_heads` and `head_dim` say how the rows of `in_proj_weight` are divided. Masks are added, or True where a
    position is not seen. Raises ValueError for other queries than keys or values.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if query is not key or key is not value:
            raise ValueError("heads were removed from this attention as of one value with itself: call it with that")
        if not self.batch_first and query.dim() == 3:
            query = query.transpose(0, 1)
        shape = (*query.shape[:-1], 3, self.num_heads, self.head_dim)
        q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).view(shape).movedim(-3, 0).transpose(-2, -3)
        mask, dropout = self._mask(attn_mask, key_padding_mask, q), self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            out = F.dropout(weights, dropout) @ v
            weights = weights.mean(-3) if average_attn_weights else weights
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(out.transpose(-2, -3).flatten(-2))
        return (out if self.batch_first or out.dim() == 2 else out.transpose(0, 1)), weights

    def _mask(self, positions: Tensor | None, padding: Tensor | None, like: Tensor) -> Tensor | None:
        """Both masks as one that is added to (..., heads, positions, positions)."""
        masks = []
        if positions is not None:
            heads = positions.dim() == 3 and like.dim() == 4  # (batch * heads, positions, positions)
            masks.append(positions.view(-1, self.num_heads, *positions.shape[1:]) if heads else positions)
        if padding is not None:
            masks.append(padding[..., None, None, :])
        added = [
            mask if mask.is_floating_point() else like.new_zeros(mask.shape).masked_fill(mask, -torch.inf)
            for mask in masks
        ]
        return sum(added[1:], added[0]) if added else None


def slim(attention: nn.MultiheadAttention) -> None:
    """Changes the class of `attention` in place; parameters keep names and identity.

    nn.TransformerEncoderLayer then calls it: the kernel it would run in eval mode is for equal sizes of q, k and v.
    """
    attention.__class__ = SlimAttention
    attention._qkv_same_embed_dim = False
