"""Data sources whose images and annotations we compose: scenes of garments and of photographs."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from scfs.config.base import ORDERED, Config, Name, Positive, Seed
from scfs.config.data_source import SMALL_IMAGES, DataSource, data_source, folders_within

Side = Annotated[int, Field(ge=28, le=96)]
Count = Annotated[int, Field(ge=0)]

SMALL_SCENES = 64
"""Scenes of a split in a rehearsal where every class must have one: among eight, chance leaves some out."""
SCENES = ("garment-scenes", "photo-scenes")
"""Sources whose images and annotations we compose."""


class ComposedScenes(DataSource):
    """Scenes with the true outlines of what is in them."""

    boxes: ClassVar[bool] = True
    known_from: ClassVar[str] = ""

    seed: Seed = 0
    """Seed of the composition; the same seed (and photographs) give the same pixels on any machine."""

    @property
    def known_images(self) -> Mapping[str, int]:
        """Number of scenes by split."""
        return {split: settings.scenes for split, settings in self.splits.items()}


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
class GarmentScenes(ComposedScenes):
    """The embedded data set: scenes composed from a committed subset of Fashion-MNIST (MIT licence, Zalando)."""

    source: Literal["garment-scenes"]
    splits: dict[Name, SceneSplit] = Field(min_length=1)
    """Splits by name."""

    def small(self, name: str, complete: Collection[str]) -> "GarmentScenes":
        """Make the same with few scenes."""
        splits = {
            split: settings.model_copy(update={"scenes": SMALL_SCENES if split in complete else SMALL_IMAGES})
            for split, settings in self.splits.items()
        }
        return self.model_copy(update={"splits": splits})


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
class PhotoScenes(ComposedScenes):
    """Scenes in which crops disagree: round parts of photographs of one's own, on an enlarged corner of another."""

    source: Literal["photo-scenes"]
    splits: dict[Name, PhotoSceneSplit] = Field(min_length=1)
    """Splits by name."""

    def inputs(self) -> list[Path]:
        """List the folders and their sub-folders."""
        return [path for settings in self.splits.values() for path in folders_within(Path(settings.photos))]

    def small(self, name: str, complete: Collection[str]) -> GarmentScenes:
        """Make a few garment scenes instead, which need no photographs."""
        splits = {
            split: SceneSplit(scenes=1, garments=settings.objects, fragments=settings.fragments)
            for split, settings in self.splits.items()
        }
        return GarmentScenes(source="garment-scenes", splits=splits).small(name, complete)
