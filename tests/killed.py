"""Training that dies."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from prunelab.lit.classifier import Classifier


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """The job run in this block dies at that step of its training."""
    train = Classifier.training_step

    def dies(self, *args):
        if self.global_step == step:
            raise KeyError("killed")
        return train(self, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyError, match="killed"):
        patch.setattr(Classifier, "training_step", dies)
        yield
