"""A DataLoader that can resume within an epoch, which torch's cannot."""

from collections.abc import Iterator

from torch.utils.data import DataLoader


class Resumable(DataLoader):
    """Has the `state_dict` that Lightning saves and restores."""

    position = start = 0

    def __iter__(self) -> Iterator:
        start, self.start = self.start, 0
        for i, batch in enumerate(super().__iter__()):
            if i >= start:
                self.position = i + 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["position"] % len(self)
