"""The data sources of a study: everything that one declares, in one class.

`prepare`, the plan, the rehearsal, the schema and the graphs take what they need from here. So a new source is a class
with `@data_source`, and a function with `@prepares` (scfs.data.sources.registry) that writes its manifest.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from scfs.config import official_sets as official
from scfs.config.base import ORDERED, Config, Name, Positive, Seed, Sha256
from scfs.config.registry import KindRegistry

Side = Annotated[int, Field(ge=28, le=96)]
Count = Annotated[int, Field(ge=0)]

MAX_PIXELS = 1 << 27
"""Most pixels of an image unless a study says otherwise; half a gigabyte when decoded. unsourced: above the 108 million
of telephones, below what Pillow takes by itself (179 million)."""

SMALL_IMAGES = 8
"""Images of a split in a rehearsal."""
SMALL_SCENES = 64
"""Scenes of a split in a rehearsal where every class must have one: among eight, chance leaves some out."""
SMALL_CLASSES = ("class-0", "class-1", "class-2", "class-3")
"""Classes of the images in a rehearsal."""


class DataSource(Config):
    """A data set: where its images come from."""

    boxes: ClassVar[bool] = False
    """True if all data sets of this source have boxes."""
    known_from: ClassVar[str] = "the study says"
    """Words of `scfs plan` for where `known_images` are from; empty: they are exact."""

    source: str
    if TYPE_CHECKING:

        @property
        def splits(self) -> Mapping[str, Any]:
            """Settings of each split, by name: a field of every source, or computed from its fields."""

    @property
    def has_boxes(self) -> bool:
        """True if its images have annotated boxes, on which detectors can be trained."""
        return self.boxes

    @property
    def known_images(self) -> Mapping[str, int]:
        """Number of images by split, where it is known before `prepare` has counted them."""
        return {}

    @property
    def catalogue_entries(self) -> Mapping[str, str]:
        """Entries of the catalogue of official data sets that it is made from: they make its manifest stale."""
        return {}

    def inputs(self) -> list[Path]:
        """List the user's own files and folders whose times tell if the manifest is stale; only those that are there.

        A file that is added to a folder, removed or renamed changes the folder's time. A file that is overwritten in
        place does not, nor does anything further down.
        """
        return []

    def small(self, name: str, complete: Collection[str]) -> "DataSource":
        """Make the data set that takes its place in a rehearsal.

        Args:
            name: of the data set; images of a rehearsal are in datasets/<name>.
            complete: splits in which every class must have an image.

        Returns:
            Garment scenes, or ImageFolders, Coco or Voc, whose files the rehearsal writes.
        """
        return self


SOURCES: KindRegistry[DataSource] = KindRegistry("source")
"""Data sources by the value of their field `source`."""
data_source = SOURCES.add_kind
"""Decorator that adds a class to the data sources."""
DataSet = Annotated[DataSource, SOURCES]


class SceneSplit(Config):
    """One split of the garment scenes."""

    scenes: Positive
    """Number of images."""
    part: Literal["train", "test"] = "train"
    """Part of Fashion-MNIST that the garments are taken from; the two are disjoint."""
    classes: Literal["seen", "held-out"] = "seen"
    """Garment classes: those of pre-training, or those kept out of it for the transfer set."""
    garments: Annotated[tuple[Positive, Positive], ORDERED] = (1, 1)
    """Least and most main garments in a scene; with one, the scene's class is that garment's."""
    side: Annotated[tuple[Side, Side], ORDERED] = (36, 64)
    """Least and greatest side of the square that a main garment is resized to, in pixels of the 96 of a scene."""
    fragments: Annotated[tuple[Count, Count], ORDERED] = (0, 3)
    """Least and most fragments of other garments behind the main ones."""
    background: Literal["noise", "flat"] = "noise"
    """Grey noise that differs from scene to scene, or one grey level, the same in all scenes."""
    equal_grey: bool = False
    """Give every garment the same mean grey level and the same contrast, so that neither tells one from another."""


@data_source
class GarmentScenes(DataSource):
    """The embedded data set: scenes composed from a committed subset of Fashion-MNIST (MIT licence, Zalando)."""

    boxes: ClassVar[bool] = True
    known_from: ClassVar[str] = ""

    source: Literal["garment-scenes"]
    seed: Seed = 0
    """Seed of the composition; the same seed gives the same pixels on any machine."""
    splits: dict[Name, SceneSplit] = Field(min_length=1)
    """Splits by name."""

    @property
    def known_images(self) -> Mapping[str, int]:
        """Number of scenes by split."""
        return {split: settings.scenes for split, settings in self.splits.items()}

    def small(self, name: str, complete: Collection[str]) -> "GarmentScenes":
        """Make the same with few scenes."""
        splits = {
            split: settings.model_copy(update={"scenes": SMALL_SCENES if split in complete else SMALL_IMAGES})
            for split, settings in self.splits.items()
        }
        return self.model_copy(update={"splits": splits})


SCENES = ("garment-scenes", "photo-scenes")
"""Sources whose images and annotations we compose."""


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
        return [path for folder in self.splits.values() for path in _folders(Path(folder))]

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
        folders = (path for split in self.splits.values() for path in _folders(Path(split.images)))
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


class PhotoSceneSplit(Config):
    """One split of scenes of photographs."""

    scenes: Positive
    """Number of images."""
    photos: str
    """Folder of photographs with a sub-folder for each class: what the objects and the backgrounds are cut from."""
    objects: Annotated[tuple[Positive, Positive], ORDERED] = (1, 1)
    """Least and most objects in a scene; with one, the scene's class is that object's."""
    side: Annotated[tuple[Side, Side], ORDERED] = (32, 48)
    """Least and greatest side of the square around an object's round outline, in pixels of the 96 of a scene."""
    fragments: Annotated[tuple[Count, Count], ORDERED] = (0, 3)
    """Least and most squares that are cut from other photographs and lie behind the objects."""


@data_source
class PhotoScenes(DataSource):
    """Scenes in which crops disagree: round parts of photographs of one's own, on an enlarged corner of another."""

    boxes: ClassVar[bool] = True
    known_from: ClassVar[str] = ""

    source: Literal["photo-scenes"]
    seed: Seed = 0
    """Seed of the composition; the same seed and photographs give the same pixels on any machine."""
    splits: dict[Name, PhotoSceneSplit] = Field(min_length=1)
    """Splits by name."""

    @property
    def known_images(self) -> Mapping[str, int]:
        """Number of scenes by split."""
        return {split: settings.scenes for split, settings in self.splits.items()}

    def inputs(self) -> list[Path]:
        """List the folders and their sub-folders."""
        return [path for settings in self.splits.values() for path in _folders(Path(settings.photos))]

    def small(self, name: str, complete: Collection[str]) -> GarmentScenes:
        """Make a few garment scenes instead, which need no photographs."""
        splits = {
            split: SceneSplit(scenes=1, garments=settings.objects, fragments=settings.fragments)
            for split, settings in self.splits.items()
        }
        return GarmentScenes(source="garment-scenes", splits=splits).small(name, complete)


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


def _folders(folder: Path) -> list[Path]:
    """List a folder and its sub-folders; nothing if it is not there."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # which asks for no file's kind one by one: there may be a hundred thousand
        return [folder, *sorted(Path(entry.path) for entry in entries if entry.is_dir())]
