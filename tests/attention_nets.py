"""Small networks of attention under layer norms, on sequences of 5 positions with 3 features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLE = torch.zeros(2, 5, 3)


class Fused(nn.Module):
    """One layer for queries, keys and values, as in timm."""

    def __init__(self, width: int, heads: int, dim: int = 4) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, dim, heads * dim
        self.qkv, self.proj = nn.Linear(width, 3 * heads * dim), nn.Linear(heads * dim, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(*x.shape[:2], self.attn_dim))


class Separate(nn.Module):
    """A layer for each, and attention in single steps, as in Transformers of old."""

    def __init__(self, width: int, heads: int, dim: int = 4) -> None:
        super().__init__()
        self.heads, self.all_head_size, self.dropout = heads, heads * dim, nn.Dropout(0.1)
        self.query, self.key, self.value = (nn.Linear(width, heads * dim) for _ in range(3))
        self.dense = nn.Linear(heads * dim, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            f(x).view(*x.shape[:2], self.heads, -1).permute(0, 2, 1, 3) for f in (self.query, self.key, self.value)
        )
        weights = self.dropout((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1))
        return self.dense((weights @ v).permute(0, 2, 1, 3).contiguous().view(*x.shape[:2], self.all_head_size))


class Torchs(nn.Module):
    """nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int, need_weights: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.need_weights, self.batch_first = need_weights, batch_first
        self.attn = nn.MultiheadAttention(width, heads, dropout=0.1, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        out = self.attn(x, x, x, need_weights=self.need_weights)[0]
        return out if self.batch_first else out.transpose(0, 1)


class Block(nn.Module):
    def __init__(self, width: int, attention: nn.Module, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = norm(width), attention, norm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 10), nn.GELU(), nn.Linear(10, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    def __init__(self, *blocks: nn.Module, width: int = 12) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Linear(3, width), nn.Sequential(*blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x))).mean(1))


class Images(nn.Module):
    """An encoder of patches of images, with a class for each of its outputs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 8, 8)
        self.blocks = nn.Sequential(*(Block(12, Fused(12, 4)) for _ in range(2)))
        self.head = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


def fused() -> Encoder:
    return Encoder(Block(12, Fused(12, 3)), Block(12, Fused(12, 2)))


def separate() -> Encoder:
    return Encoder(Block(12, Separate(12, 3), nn.RMSNorm))


def torchs() -> Encoder:
    return Encoder(Block(12, Torchs(12, 3)))


def with_weights() -> Encoder:
    return Encoder(Block(12, Torchs(12, 3, need_weights=True, batch_first=False)))


def encoder_layers() -> Encoder:
    layer = nn.TransformerEncoderLayer(12, 4, 16, batch_first=True)
    return Encoder(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


class Mixer(nn.Module):
    """As MLP-Mixer: a layer along positions, under norms as PoolFormer's."""

    def __init__(self, width: int, positions: int = 5) -> None:
        super().__init__()
        self.norm1, self.tokens, self.norm2 = (
            nn.GroupNorm(1, width),
            nn.Linear(positions, positions),
            nn.LayerNorm(width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 10), nn.GELU(), nn.Linear(10, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x.mT)).mT
        return x + self.mlp(self.norm2(x))


def mixers() -> Encoder:
    return Encoder(Mixer(12), Mixer(12))


class Patches(nn.Module):
    """A vision transformer's beginning: a class token, position embeddings, and a size written into a reshape."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.image_size = self.hidden_dim = width  # the same number by chance
        self.conv, self.cls_token = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed, self.encoder = nn.Parameter(torch.randn(1, 10, width)), Block(width, Torchs(width, 3))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).reshape(len(x), self.hidden_dim, -1).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.encoder(x))[:, 0])


class Tokens(nn.Module):
    """As BERT begins: embeddings of tokens, and of their positions."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(20, 12), nn.Embedding(9, 12)
        self.register_buffer("position_ids", torch.arange(9)[None], persistent=False)
        self.norm, self.encoder, self.head = nn.LayerNorm(12), Block(12, Separate(12, 3)), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.tokens(x) + self.positions(self.position_ids[:, : x.shape[1]]))
        return self.head(self.encoder(x)[:, 0])


class ChannelNorm(nn.LayerNorm):
    """Over the channels of images (N, C, H, W), as in ConvNeXt."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


def scrambled(net: nn.Module) -> nn.Module:
    """With other scales and shifts than 1 and 0, in which an error would hide."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net
