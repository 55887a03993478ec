"""LeNet-300-100, a network without convolutions: LeCun et al. 1998, as Frankle and Carbin 2019 use it (figure 2)."""

from torch import Tensor, nn

from prunelab.models.initial import glorot_normal_


class LeNet300(nn.Module):
    """(n, 3, 32, 32) -> (n, num_classes): layers of 300 and 100 units, Gaussian Glorot initialization."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3 * 32 * 32, 300)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(300, 100)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(100, num_classes)
        glorot_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.relu2(self.fc2(self.relu1(self.fc1(x.flatten(1))))))
