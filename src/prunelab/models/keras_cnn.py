"""The CIFAR-10 example of Keras: Chollet et al. 2015, keras/examples/cifar10_cnn.py."""

from torch import Tensor, nn

from prunelab.models.initial import glorot_uniform_


class KerasCNN(nn.Module):
    """(n, 3, 32, 32) -> (n, num_classes), with the dropout and the initialization of the example.

    The first convolution of each pair is padded (Keras' `same`), the second is not (`valid`): h is 32, 30, 15, 13, 6.
    """

    def __init__(self, num_classes: int = 10, conv_dropout: float = 0.25, dense_dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential()
        in_channels = 3
        for stage, width in enumerate((32, 64), start=1):
            self.features.add_module(f"conv{stage}_1", nn.Conv2d(in_channels, width, 3, padding=1))
            self.features.add_module(f"relu{stage}_1", nn.ReLU())
            self.features.add_module(f"conv{stage}_2", nn.Conv2d(width, width, 3))
            self.features.add_module(f"relu{stage}_2", nn.ReLU())
            self.features.add_module(f"pool{stage}", nn.MaxPool2d(2))
            self.features.add_module(f"dropout{stage}", nn.Dropout(conv_dropout))
            in_channels = width
        self.fc1 = nn.Linear(64 * 6 * 6, 512)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dense_dropout)
        self.fc2 = nn.Linear(512, num_classes)
        glorot_uniform_(self)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.fc1(self.features(x).flatten(1)))  # (n, 512)
        return self.fc2(self.dropout(hidden))
