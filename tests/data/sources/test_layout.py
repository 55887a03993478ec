"""Folders of images as people have them: read as they expect, or refused in one line with the remedy."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from prunelab.data.sources.image_folder import ImageFolder, notes
from prunelab.data.sources.listing import scan


def touch(*paths: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()

    return change


def move(old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)

    return change


def link(name: str, to: str) -> Callable[[Path], None]:
    return lambda root: (root / name).symlink_to(to)


def each(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        for one in changes:
            one(root)

    return change


READ = {
    "val": (move("test", "val"), ["there is no test/, so val/ has the test images"]),
    "valid": (move("test", "valid"), ["there is no test/, so valid/ has the test images"]),
    "test and val": (touch("val/cat/0.png"), ["val/ is not used, validation images are held out of train/"]),
    "other suffixes": (
        touch("train/cat/a.heic", "test/dog/b.HEIC", "train/dog/notes.txt", "train/labels"),
        ["left out, as not read as images: 2 .heic, 1 .txt, 1 without suffix"],
    ),
    "hidden files": (touch("train/.DS_Store", "train/cat/._0.png", "test/dog/Thumbs.db", "train/cat/desktop.ini"), []),
    "hidden folders": (touch("train/.ipynb_checkpoints/a.png", "train/__MACOSX/cat/0.png", "train/cat/.x/0.png"), []),
    "nested": (each(move("train/cat/0.png", "train/cat/a/b/0.png"), touch("train/dog/sub/notes.txt")), ["1 .txt"]),
    "linked class": (each(move("train/cat", "elsewhere"), link("train/cat", "../elsewhere")), []),
    "linked image": (each(move("train/cat/0.png", "0.png"), link("train/cat/0.png", "../../0.png")), []),
    "a folder named as an image": (move("train/cat/0.png", "train/cat/more.png/0.png"), []),
    "a broken link that is no image": (link("train/cat/notes.txt", "nowhere"), ["1 .txt"]),
}


@pytest.mark.parametrize(("change", "said"), READ.values(), ids=READ)
def test_folders_as_people_have_them_are_read_whole(
    change: Callable[[Path], None], said: list[str], tree: Path
) -> None:
    change(tree)
    listing = scan(tree)
    assert (listing.classes, len(listing.train), len(listing.test)) == (("cat", "dog"), 12, 4)
    assert all(Path(path).is_file() for path, _ in (*listing.train, *listing.test))
    found = list(notes(tree, listing))
    assert len(found) == len(said)
    assert all(part in note for part, note in zip(said, found, strict=True))


REFUSED = {
    "no folder": (lambda root: root.rename(root.parent / "x"), "no such folder; expected one with train/<class>/"),
    "only train": (
        move("test", "more"),
        "no test/ in it, only more, train; move some images of each class from train/<class>/ to test/<class>/",
    ),
    "only test": (move("train", "more"), "no train/ in it, only more, test; move most images of each class to train/"),
    "no split": (
        each(move("train/cat", "cat"), move("train/dog", "dog"), move("train", ".t"), move("test", ".u")),
        "no train/ in it, only cat, dog; move most images of each class to train/<class>/, and the others to test/",
    ),
    "one folder too high": (
        each(move("train", "inner/train"), move("test", "inner/test")),
        "no train/ in it, only inner; give data.root=.*/tree/inner",
    ),
    "an empty folder": (
        each(move("train", ".t"), move("test", ".u")),
        "no train/ in it, nor another folder; move most images of each class to train/<class>/",
    ),
    "capitals": (each(move("train", "Train"), move("test", "Test")), "only Test, Train; rename Test/ to test/"),
    "unpacked CIFAR-10": (
        each(move("train", "cifar-10-batches-py"), move("test", ".t")),
        "only cifar-10-batches-py; data=torchvision data.name=CIFAR10 data.root=.*/tree reads it",
    ),
    "a class in one split": (move("test/dog", "train/fox"), "class 'dog' is only in train/; add the other or remove"),
    "a class in capitals": (move("test/cat", "test/Cat"), "class 'Cat' is only in test/; train/ has 'cat': rename one"),
    "an empty class": (
        each(move("test/dog", ".dog"), lambda root: (root / "test/dog").mkdir()),
        "test/dog contains no image .*; add images, or remove the class",
    ),
    "a class of other files": (
        each(move("test/dog", ".dog"), touch("test/dog/0.heic", "test/dog/1.heic")),
        "test/dog contains no image .*, only 2 .heic; add images",
    ),
    "no classes": (
        each(*(move(f"{s}/{c}", f".{s}{c}") for s in ("train", "test") for c in ("cat", "dog")), touch("train/0.png")),
        "train/ contains no class folder; expected train/<class>/",
    ),
    "a broken link": (link("train/cat/z.png", "/nowhere/z.png"), "cat/z.png: a link to nothing, or no file; remove it"),
    "a pipe": (lambda root: os.mkfifo(root / "train/cat/z.png"), "cat/z.png: a link to nothing, or no file; remove it"),
    "a circle": (link("train/cat/all", ".."), "cat/all/cat: a link to a folder that contains it; remove it"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_other_folders_are_refused_in_a_line_with_the_remedy(
    change: Callable[[Path], object], message: str, tree: Path
) -> None:
    change(tree)
    with pytest.raises((ValueError, OSError), match=message) as error:
        scan(tree)
    assert "\n" not in str(error.value)


def test_a_split_for_root_is_told_its_parent(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no train/ in it, only cat, dog; give data.root={tree}$"):
        scan(tree / "train")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("photos.tar.gz", "unpack it, and give the folder"), ("photos.ZIP", "unpack it"), ("a.png", "expected a folder")],
)
def test_a_file_for_root_is_refused_for_what_it_is(name: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(NotADirectoryError, match=rf"data.root=.*{name}: a file; {remedy}"):
        ImageFolder(str(tmp_path / name), cache=str(tmp_path)).check()


def test_what_is_left_out_is_said_when_images_are_decoded(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "prunelab")
    touch("train/cat/a.heic")(tree)
    for _ in range(2):
        ImageFolder(str(tree), val=4, cache=str(tree.parent / "cache")).load()
    assert caplog.text.count("left out, as not read as images: 1 .heic") == 1
    assert f"data.root={tree}: " in caplog.text


def test_nested_images_have_the_label_of_their_class(tree: Path) -> None:
    Image.new("RGB", (32, 32)).save(tree / "train/dog/0a.png")
    move("train/dog/0.png", "train/dog/sub/0.png")(tree)
    listing = scan(tree)
    assert [label for path, label in listing.train if "/dog/" in path] == [1] * 7
    assert listing.train[-1][0].endswith("dog/sub/0.png")
