"""Data sets of a study."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scfs.config import official_sets as official
from scfs.config.base import NAME, Config, Seed

Positive = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=28, le=96)]
SplitName = Annotated[str, Field(pattern=NAME)]


class SceneSplit(Config):
    """One split of the garment scenes."""

    scenes: Positive
    """Number of images."""
    part: Literal["train", "test"] = "train"
    """Part of Fashion-MNIST that the garments are taken from; the two are disjoint."""
    classes: Literal["seen", "held-out"] = "seen"
    """Garment classes: those of pre-training, or those kept out of it for the transfer set."""
    garments: tuple[Positive, Positive] = (1, 1)
    """Least and most main garments in a scene; with one, the scene's class is that garment's."""
    side: tuple[Side, Side] = (36, 64)
    """Least and greatest side of the square that a main garment is resized to, in pixels of the 96 of a scene."""
    fragments: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (0, 3)
    """Least and most fragments of other garments behind the main ones."""
    background: Literal["noise", "flat"] = "noise"
    """Grey noise that differs from scene to scene, or one grey level, the same in all scenes."""
    equal_grey: bool = False
    """Give every garment the same mean grey level and the same contrast, so that neither tells one from another."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("garments", "side", "fragments"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} must be [least, most] with least <= most")
        return self


class GarmentScenes(Config):
    """The embedded data set: scenes composed from a committed subset of Fashion-MNIST (MIT licence, Zalando)."""

    source: Literal["garment-scenes"]
    seed: Seed = 0
    """Seed of the composition; the same seed gives the same pixels on any machine."""
    splits: dict[SplitName, SceneSplit] = Field(min_length=1)
    """Splits by name."""


class ClassList(Config):
    """A list of classes that somebody publishes: a text file of names, separated by spaces or line ends."""

    file: str
    """Where you put it; nothing fetches it."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hash of its content."""
    url: str
    """Where it is published."""


class ImageFolders(Config):
    """A data set of one's own: folders of JPEG or PNG images."""

    source: Literal["folder"]
    splits: dict[SplitName, str] = Field(min_length=1)
    """Folder of each split: flat (no labels) or one sub-folder per class."""
    class_list: ClassList | None = None
    """Take only the sub-folders that this list names; none: all. All splits then need sub-folders."""
    images: dict[SplitName, Positive] = {}
    """Images that a split is known to have: `scfs plan` counts with it, and another number found is a warning."""
    unreadable: Literal["error", "skip"] = "error"
    """What to do with an image that cannot be decoded: stop, or leave it out and say how many."""

    @model_validator(mode="after")
    def _counted_splits_exist(self) -> Self:
        for split in self.images:
            if split not in self.splits:
                raise ValueError(f"images.{split}: not among the splits {sorted(self.splits)}")
        return self


class ImageTable(Config):
    """A data set of one's own: images that a table names."""

    source: Literal["table"]
    splits: dict[SplitName, str] = Field(min_length=1)
    """CSV or Parquet file of each split, with a column `path` (absolute, or relative to the table's folder) and, if the
    images have labels, a column `label`."""
    images: dict[SplitName, Positive] = {}
    """Images that a split is known to have: `scfs plan` counts with it, and another number found is a warning."""


class CocoSplit(Config):
    """One split of a data set in COCO's format."""

    images: str
    """Folder of the images that the annotations name."""
    annotations: str
    """JSON with boxes, and masks if there are any (cocodataset.org, "Data format": object detection)."""


class Coco(Config):
    """Images with boxes and masks in COCO's format: COCO itself, or a data set of one's own."""

    source: Literal["coco"]
    splits: dict[SplitName, CocoSplit] = Field(min_length=1)
    """Splits by name."""
    images: dict[SplitName, Positive] = {}
    """Images that a split is known to have: `scfs plan` counts with it, and another number found is a warning."""


class Voc(Config):
    """Images with boxes in a VOC devkit: PASCAL VOC itself, or a data set of one's own."""

    source: Literal["voc"]
    splits: dict[SplitName, tuple[str, ...]] = Field(min_length=1)
    """Lists of images of each split, such as VOCdevkit/VOC2007/ImageSets/Main/trainval.txt; Annotations and JPEGImages
    are looked for in the same devkit."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in order; by default all that the annotations name, sorted (which is VOC's own order)."""
    images: dict[SplitName, Positive] = {}
    """Images that a split is known to have: `scfs plan` counts with it, and another number found is a warning."""


class Official(Config):
    """A data set as it is published: made from its official archives, whose facts the catalogue has."""

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
    """What to do with an image that cannot be decoded: stop, or leave it out and say how many."""

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
        """Whether it is a detection set."""
        return official.catalogue()[self.entry].task == "detection"

    @property
    def is_imagenet(self) -> bool:
        """Whether it is made from ImageNet's archives."""
        return "imagenet" in (self.entry, *self.uses)

    @property
    def uses(self) -> tuple[str, ...]:
        """Other entries whose archives it is made from."""
        return official.catalogue()[self.entry].uses

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Splits by name: the official ones that each is made of."""
        return JOINED_SPLITS.get(self.entry) or {split: (split,) for split in official.catalogue()[self.entry].splits}

    @property
    def images(self) -> dict[str, int]:
        """Images of each split, where known."""
        known = official.catalogue()[self.entry].splits
        if self.class_list is not None:
            return {}
        return {split: sum(known[part] for part in parts) for split, parts in self.splits.items()}


JOINED_SPLITS = {"voc": {"train": ("trainval2007", "trainval2012"), "test": ("test2007",)}}
"""VOC 07+12, on which the paper trains detectors, and the test split of 2007."""

DataSet = Annotated[GarmentScenes | ImageFolders | ImageTable | Coco | Voc | Official, Field(discriminator="source")]
