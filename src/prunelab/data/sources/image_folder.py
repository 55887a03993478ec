"""A folder of image files as a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunelab.data.dataset import Dataset
from prunelab.data.sources.cache import DEFAULT_FOLDER
from prunelab.data.sources.decode import SIZE, decode_files
from prunelab.data.sources.listing import Listing, classes, scan
from prunelab.data.sources.size import check_size, require_memory
from prunelab.data.sources.source import Source


@dataclass(frozen=True)
class ImageFolder(Source):
    """Images in `root/{train,test}/<class>/*.{jpg,jpeg,png}`; labels number the classes in alphabetical order.

    They have 32x32 pixels, or are brought to `size`x`size` (decode.py).
    """

    root: str | None
    val: int = 5000
    split_seed: int = 0
    cache: str = DEFAULT_FOLDER
    size: int | None = None

    def check(self) -> None:
        """Raises FileNotFoundError without train/ and test/, ValueError for a wrong size or if their classes differ."""
        check_size(self.size)
        classes(self.folder())

    def key(self) -> str:
        return f"image_folder-{self.listing().digest[:16]}" + (f"-{self.size}" if self.size else "")

    def decode(self) -> Dataset:
        listing = self.listing()
        require_memory(len(listing.train) + len(listing.test), self.size or SIZE)
        train, test = (decode_files(files, self.size) for files in (listing.train, listing.test))
        return Dataset.from_tensors(train, test, listing.classes)

    def folder(self) -> Path:
        if not self.root:
            raise ValueError(f"data.root={self.root}: expected a folder with train/<class>/ and test/<class>/")
        return Path(self.root).expanduser()

    def listing(self) -> Listing:
        return scan(self.folder())
