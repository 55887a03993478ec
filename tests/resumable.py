"""A loader that goes on inside an epoch, which torch's own cannot."""

from collections.abc import Iterator

from torch.utils.data import DataLoader


class Resumable(DataLoader):
    """Goes on inside an epoch after a restart, as Lightning asks of a loader."""

    given = start = 0

    def __iter__(self) -> Iterator:
        start, self.start = self.start, 0
        for i, batch in enumerate(super().__iter__()):
            if i >= start:
                self.given = i + 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["given"] % len(self)
