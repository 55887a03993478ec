"""Images that are in two splits, pixel for pixel."""

import logging

from torch import Tensor

log = logging.getLogger(__name__)


def warn_of_copies(x_train: Tensor, train: Tensor, val: Tensor, x_test: Tensor) -> None:
    """Logs how many images of other splits are training images as well, which a network may know by heart.

    `x_*` are uint8 (n, 3, h, w), `train` and `val` rows of the first. 0.1 s for CIFAR-10.
    """
    hashes = [hash(image.tobytes()) for image in x_train.numpy()]
    trained = {hashes[row] for row in train.tolist()}
    others = {"test": [hash(image.tobytes()) for image in x_test.numpy()]}
    others |= {"validation": [hashes[row] for row in val.tolist()]}
    copies = {name: sum(image in trained for image in images) for name, images in others.items()}
    if found := [f"{count} of {len(others[name])} {name} images" for name, count in copies.items() if count]:
        log.warning("%s are training images too, pixel for pixel: remove the copies", " and ".join(found))
