"""Data sources whose images somebody else has: one's own in folders, tables, COCO and VOC, and the official sets."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from scfs.config import official_sets as official
from scfs.config.base import Config, Name, Positive, Sha256
from scfs.config.data_source import SMALL_IMAGES, DataSource, data_source, folders_within
from scfs.config.scenes import GarmentScenes  # noqa: F401  # the scenes add themselves, first

MAX_PIXELS = 1 << 27
"""Most pixels of an image unless a study says otherwise; half a gigabyte when decoded. unsourced: above the 108 million
of telephones, below what Pillow takes by itself (179 million)."""

SMALL_CLASSES = ("class-0", "class-1", "class-2", "class-3")
"""Classes of the images in a rehearsal."""


class OwnImages(DataSource):
    """A data set of one's own, in files of one's own."""

    images: dict[Name, Positive] = {}
    """Images that a split is known to have: `scfs plan` counts with it, and another number found is a warning."""
    max_pixels: Annotated[int, Field(ge=1, le=2 * MAX_PIXELS)] = MAX_PIXELS
    """Most pixels of an image. One that has more by its header is not decoded, and counts as one that cannot be."""
    damaged: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest share of JPEGs that are damaged, but decoded nevertheless, mostly with grey patches. unsourced: none of
    398 sound photographs was taken for one."""

    @model_validator(mode="after")
    def _counted_splits_exist(self) -> Self:
        for key in ("images", "images_per_class"):
            for split in getattr(self, key, ()):
                if split not in self.splits:
                    raise ValueError(f"{key}.{split}: not among the splits {sorted(self.splits)}")
        return self

    @property
    def known_images(self) -> Mapping[str, int]:
        """Number of images by split, as the study says."""
        return self.images

    def small(self, name: str, complete: Collection[str]) -> "OwnImages":
        """Make the same with a few images in datasets/<name>."""
        splits = {split: self._small_split(split, f"datasets/{name}/{split}") for split in self.splits}
        return self.model_copy(update={"splits": splits, "images": dict.fromkeys(self.images, SMALL_IMAGES)})

    def _small_split(self, split: str, place: str) -> Any:
        """Make the settings of a split whose files begin with `place`."""
        return place


class PublishedList(Config):
    """A text file of names that somebody publishes."""

    small_text: ClassVar[str]
    """Text of the list that takes its place in a rehearsal."""

    file: str
    """File where you put it; nothing fetches it."""
    sha256: Sha256
    """Hash of its content."""
    url: str
    """Address where it is published."""

    def small(self, name: str) -> Self:
        """Describe the list that takes its place in a rehearsal, in the file `name`.txt."""
        digest = hashlib.sha256(self.small_text.encode()).hexdigest()
        return self.model_copy(update={"file": f"datasets/{name}.txt", "sha256": digest})


class ClassList(PublishedList):
    """A list of classes that somebody publishes: a text file of names, separated by spaces or line ends."""

    small_text: ClassVar[str] = " ".join(SMALL_CLASSES) + "\n"


@data_source
class ImageFolders(OwnImages):
    """A data set of one's own: folders of images."""

    source: Literal["folder"]
    splits: dict[Name, str] = Field(min_length=1)
    """Folder of each split: flat (no labels) or one sub-folder per class."""
    class_list: ClassList | None = None
    """Take only the sub-folders that this list names; none: all. All splits then need sub-folders."""
    images_per_class: dict[Name, Positive] = {}
    """Of a split, take only so many images of each class (of a flat folder: in all), the first by name; none: all."""
    unreadable: Literal["error", "skip"] = "error"
    """Treatment of an image that cannot be decoded: stop, or leave it out and say how many."""

    def inputs(self) -> list[Path]:
        """List the folders and their sub-folders."""
        return [path for folder in self.splits.values() for path in folders_within(Path(folder))]

    def small(self, name: str, complete: Collection[str]) -> OwnImages:
        """Make folders of a few images."""
        class_list = self.class_list and self.class_list.small(name)
        return super().small(name, complete).model_copy(update={"class_list": class_list})


@data_source
class ImageTable(OwnImages):
    """A data set of one's own: images that a table names."""

    source: Literal["table"]
    splits: dict[Name, str] = Field(min_length=1)
    """CSV or Parquet file of each split, with a column `path` (absolute, or relative to the table's folder) and, if the
    images have labels, a column `label`."""

    def inputs(self) -> list[Path]:
        """List the tables."""
        return _files(self.splits.values())

    def small(self, name: str, complete: Collection[str]) -> OwnImages:
        """Make folders of a few images."""
        return ImageFolders(source="folder", splits=self.splits, images=self.images).small(name, complete)


class CocoSplit(Config):
    """One split of a data set in COCO's format."""

    images: str
    """Folder of the images that the annotations name."""
    annotations: str
    """JSON with boxes, and masks if there are any (cocodataset.org, "Data format": object detection)."""


@data_source
class Coco(OwnImages):
    """Images with boxes and masks in COCO's format: COCO itself, or a data set of one's own."""

    boxes: ClassVar[bool] = True

    source: Literal["coco"]
    splits: dict[Name, CocoSplit] = Field(min_length=1)
    """Splits by name."""

    def inputs(self) -> list[Path]:
        """List the annotations, and the folders of images and their sub-folders."""
        folders = (path for split in self.splits.values() for path in folders_within(Path(split.images)))
        return [*_files(split.annotations for split in self.splits.values()), *folders]

    def _small_split(self, split: str, place: str) -> CocoSplit:
        return CocoSplit(images=place, annotations=f"{place}.json")


@data_source
class Voc(OwnImages):
    """Images with boxes in a VOC devkit: PASCAL VOC itself, or a data set of one's own."""

    boxes: ClassVar[bool] = True

    source: Literal["voc"]
    splits: dict[Name, tuple[str, ...]] = Field(min_length=1)
    """Lists of images of each split, such as VOCdevkit/VOC2007/ImageSets/Main/trainval.txt; Annotations and JPEGImages
    are looked for in the same devkit."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in order; by default all that the annotations name, sorted (which is VOC's own order)."""

    def inputs(self) -> list[Path]:
        """List the lists of images."""
        return _files(file for files in self.splits.values() for file in files)

    def _small_split(self, split: str, place: str) -> tuple[str, ...]:
        """Make a devkit for each list."""
        return tuple(f"{place}-{number}/ImageSets/Main/{split}.txt" for number, _ in enumerate(self.splits[split]))


@data_source
class Official(DataSource):
    """A data set as it is published: made from its official archives, whose facts the catalogue has."""

    known_from: ClassVar[str] = "published"

    source: Literal["official"]
    entry: str
    """Name in the catalogue (scfs/config/official_sets.yaml)."""
    archives: str = "datasets/archives"
    """Folder with the archives, in a sub-folder for each entry; those that may be fetched are put there."""
    layout: Literal["folder", "shards", "archive"] = "folder"
    """Images as files; as tar shards, which network file systems like better; or read where they lie in the archives,
    which takes no further space, and which only ImageNet's, not being compressed, allow."""
    shard_size: Positive = 256
    """Megabytes after which a shard ends. unsourced: ImageNet's train split then has some 550 of them, and what a kill
    costs `prepare` is seconds."""
    class_list: ClassList | None = None
    """Take only the classes that this list names: of ImageNet alone, whose entry imagenet100 has its own list."""
    check: Literal["all", "sample"] = "all"
    """Decode all images, or one in 64 and of the others no more than the header; all are hashed."""
    unreadable: Literal["error", "skip"] = "error"
    """Treatment of an image that cannot be decoded: stop, or leave it out and say how many."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        sets = sorted(name for name, found in official.catalogue().items() if "image_list" not in found.archives)
        if self.entry not in sets:
            raise ValueError(f"entry = {self.entry!r}: not among {sets}")
        if self.has_boxes and self.layout != "folder":
            raise ValueError(f"layout = {self.layout!r}: {self.entry} has boxes, whose readers want files: folder")
        if self.layout == "archive" and not self.is_imagenet:
            raise ValueError("layout = 'archive': the images do not lie uncompressed in a tar: folder or shards")
        if self.class_list is not None and self.entry != "imagenet":
            raise ValueError(f"class_list: for the entry imagenet, not for {self.entry}")
        return self

    @property
    def has_boxes(self) -> bool:
        """True if it is a detection set."""
        return official.catalogue()[self.entry].task == "detection"

    @property
    def is_imagenet(self) -> bool:
        """True if it is made from ImageNet's archives."""
        return "imagenet" in self.catalogue_entries.values()

    @property
    def catalogue_entries(self) -> Mapping[str, str]:
        """Its entry, and as `whole` the one of whose archives it takes a part, if it does."""
        return dict(zip(("entry", "whole"), (self.entry, *official.catalogue()[self.entry].uses)))

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Official splits that each split is made of, by its name."""
        return JOINED_SPLITS.get(self.entry) or {split: (split,) for split in official.catalogue()[self.entry].splits}

    @property
    def known_images(self) -> Mapping[str, int]:
        """Number of images of each split as published; none of a subset of classes."""
        known = official.catalogue()[self.entry].splits
        if self.class_list is not None:
            return {}
        return {split: sum(known[part] for part in parts) for split, parts in self.splits.items()}

    def small(self, name: str, complete: Collection[str]) -> OwnImages:
        """Make a data set of one's own with the same splits, for no rehearsal waits for archives."""
        numbers = dict(self.known_images)
        if self.entry == "voc":
            return Voc(source="voc", splits=self.splits, images=numbers).small(name, complete)
        if self.has_boxes:
            empty = dict.fromkeys(self.splits, CocoSplit(images="", annotations=""))
            return Coco(source="coco", splits=empty, images=numbers).small(name, complete)
        folders = dict.fromkeys(self.splits, "")
        own = ImageFolders(source="folder", splits=folders, images=numbers, class_list=self.class_list)
        return own.small(name, complete)


JOINED_SPLITS = {"voc": {"train": ("trainval2007", "trainval2012"), "test": ("test2007",)}}
"""VOC 07+12, on which the paper trains detectors, and the test split of 2007."""


def _files(names: Iterable[str]) -> list[Path]:
    return list(filter(Path.is_file, map(Path, names)))
