"""A folder of image files as a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunelab.data.dataset import Dataset
from prunelab.data.sources.cache import DEFAULT_FOLDER
from prunelab.data.sources.decode import decode_files
from prunelab.data.sources.listing import Listing, classes, scan
from prunelab.data.sources.source import Source


@dataclass(frozen=True)
class ImageFolder(Source):
    """32x32 images, `root/{train,test}/<class>/*.{jpg,jpeg,png}`; labels number the classes in alphabetical order."""

    root: str | None
    val: int = 5000
    split_seed: int = 0
    cache: str = DEFAULT_FOLDER

    def check(self) -> None:
        """Raises FileNotFoundError without train/ and test/, ValueError if their classes differ."""
        classes(self.folder())

    def key(self) -> str:
        return f"image_folder-{self.listing().digest[:16]}"

    def decode(self) -> Dataset:
        listing = self.listing()
        return Dataset.from_tensors(decode_files(listing.train), decode_files(listing.test), listing.classes)

    def folder(self) -> Path:
        if not self.root:
            raise ValueError(f"data.root={self.root}: expected a folder with train/<class>/ and test/<class>/")
        return Path(self.root).expanduser()

    def listing(self) -> Listing:
        return scan(self.folder())
