"""Conv-2, Conv-4 and Conv-6 of the lottery ticket hypothesis: Frankle and Carbin 2019, figure 2 (arXiv:1803.03635)."""

from torch import Tensor, nn

from prunelab.models.initial import glorot_normal_


class LotteryConv(nn.Module):
    """(n, 3, 32, 32) -> (n, num_classes): stages of two convolutions and a pool, then 256-256-num_classes.

    No batch norm, biases everywhere, Gaussian Glorot initialization.
    """

    def __init__(self, stages: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential()
        in_channels = 3
        for stage in range(1, stages + 1):
            width = 64 * 2 ** (stage - 1)
            self.features.add_module(f"conv{stage}_1", nn.Conv2d(in_channels, width, 3, padding=1))
            self.features.add_module(f"relu{stage}_1", nn.ReLU())
            self.features.add_module(f"conv{stage}_2", nn.Conv2d(width, width, 3, padding=1))
            self.features.add_module(f"relu{stage}_2", nn.ReLU())
            self.features.add_module(f"pool{stage}", nn.MaxPool2d(2))
            in_channels = width
        side = 32 // 2**stages
        self.fc1 = nn.Linear(in_channels * side * side, 256)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(256, 256)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(256, num_classes)
        glorot_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu1(self.fc1(self.features(x).flatten(1)))  # (n, 256)
        return self.fc3(self.relu2(self.fc2(hidden)))


def conv2(num_classes: int = 10) -> LotteryConv:
    """64-64; 4.3M weights, 38K of them in convolutions."""
    return LotteryConv(1, num_classes)


def conv4(num_classes: int = 10) -> LotteryConv:
    """64-64, 128-128; 2.4M weights, 260K of them in convolutions."""
    return LotteryConv(2, num_classes)


def conv6(num_classes: int = 10) -> LotteryConv:
    """64-64, 128-128, 256-256; 1.1M weights in convolutions.

    Built as figure 2 describes, it has 2.3M in all; the 1.7M given there match no head on 4x4x256.
    """
    return LotteryConv(3, num_classes)
