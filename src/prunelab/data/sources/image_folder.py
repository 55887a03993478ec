"""A folder of image files as a data set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prunelab.data.dataset import Dataset
from prunelab.data.sources.decode import SIZE, decode_files
from prunelab.data.sources.layout import EXPECTED, TEST, classes, folders, splits
from prunelab.data.sources.listing import Listing, listed, scan
from prunelab.data.sources.size import check_size, require_memory
from prunelab.data.sources.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFolder(Source):
    """Images below `root/{train,test}/<class>/`; labels number the classes in alphabetical order.

    Without test/ those of val/ are the test images. All have 32x32 pixels, or are brought to `size`x`size` (decode.py).
    """

    root: str | None
    val: int = 5000
    split_seed: int = 0
    cache: str | None = None
    size: int | None = None

    def check(self) -> None:
        """Raises OSError without train/ and test/, ValueError for a wrong size or if their classes differ."""
        check_size(self.size)
        classes(self.folder())

    def key(self) -> str:
        return f"image_folder-{self.listing().digest[:16]}" + (f"-{self.size}" if self.size else "")

    def decode(self) -> Dataset:
        listing = self.listing()
        for note in notes(self.folder(), listing):
            log.info("data.root=%s: %s", self.root, note)
        require_memory(len(listing.train) + len(listing.test), self.size or SIZE)
        train, test = (decode_files(files, self.size) for files in (listing.train, listing.test))
        return Dataset.from_tensors(train, test, listing.classes)

    def folder(self) -> Path:
        if not self.root:
            raise ValueError(f"data.root is not given: expected a folder with {EXPECTED}")
        return Path(self.root).expanduser()

    def listing(self) -> Listing:
        return scan(self.folder())


def notes(root: Path, listing: Listing) -> Iterator[str]:
    """What is not as it seems, or not used."""
    if (test := splits(root)[1]) != "test":
        yield f"there is no test/, so {test}/ has the test images; those of validation are held out of train/"
    elif unused := sorted(set(folders(root)) & {*TEST} - {"test"}):
        yield f"{', '.join(unused)}/ is not used, validation images are held out of train/"
    if listing.left_out:
        yield f"left out, as not read as images: {listed(listing.left_out)}"
