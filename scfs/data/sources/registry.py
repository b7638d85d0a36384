"""Functions of the data sources (scfs.config.data_source), by name: each source's module registers its own here.

Our modules are imported by scfs.data.prepare and scfs.data.opening; those of others are plugins (scfs.config.registry).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scfs.config.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa

    from scfs.data.image_set import ImageSet

PREPARE: Registry[Callable[[str, Any, Path], None]] = Registry("source")
"""Functions that prepare a data set: its name, its settings, and the folder where they write at least the manifest (by
scfs.data.manifest.write_manifest), last of all. Repeating one gives the same files. They raise ScfsError."""

RESTORE: Registry[Callable[[Path, "ImageSet", "pa.Table", Mapping[str, Any]], None]] = Registry("source")
"""Functions that make missing images again, of sources whose images no stage declares as its output: manifest, split to
be opened, and the manifest's table and metadata. They raise ScfsError. Several processes may call one at once."""
