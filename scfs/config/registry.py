"""Registries: one for each sort of thing that may be added (evaluations, figures, data sources, backbones, ...).

A thing is added once, by the module that defines it:

    METHODS.add("dino")(MethodSpec())

Everything that goes through all of a sort asks the registry: the schema, the plan, the rehearsal, the report, dvc.yaml.
A module outside this package adds its own in the same way. It is found by its name: in SCFS_PLUGINS (modules on
PYTHONPATH, with commas between them), or as an entry point of an installed distribution:

    [project.entry-points."scfs.plugins"]
    mine = "my_package.my_module"

Plugins are imported when a registry is read for the first time, so a module of this package must not read one while it
is being imported. Configuration classes are built at their first use (`defer_build`), after that.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Annotated, Any, Generic, TypeVar, Union, get_args

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from scfs.errors import ScfsError

T = TypeVar("T")
Added = TypeVar("Added")

VARIABLE, GROUP = "SCFS_PLUGINS", "scfs.plugins"
OWN = ("scfs.report.figures",)
"""Packages of ours, above this one, each of whose modules may add something: they are found by name, as plugins are."""


@cache
def load_plugins() -> None:
    """Import the modules of OWN, and those that SCFS_PLUGINS and the entry points name; once for a process.

    Raises:
        ScfsError: a module cannot be imported.
    """
    named = [(VARIABLE, name.strip()) for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    installed = [(f"entry point {point.name} of {GROUP}", point.module) for point in entry_points(group=GROUP)]
    for package in OWN:
        for found in iter_modules(import_module(package).__path__, f"{package}."):
            import_module(found.name)
    for source, module in [*named, *installed]:
        try:
            import_module(module)
        except ScfsError:
            raise
        except Exception as error:  # whatever somebody else's module raises
            raise ScfsError(f"{source}: {module}: cannot be imported: {type(error).__name__}: {error}") from error


class Registry(Generic[T]):
    """Things of one sort by name, in the order in which they were added: our own first, then those of plugins."""

    def __init__(self, key: str) -> None:
        """Begin an empty registry; `key` is the setting that names one of its things, for messages."""
        self.key = key
        self._things: dict[str, T] = {}

    def add(self, name: str) -> Callable[[Added], Added]:
        """Make a decorator that adds a class or a function under a name, and returns it as it is.

        Raises:
            ScfsError: the name is taken (raised by the decorator).
        """

        def register(thing: Added) -> Added:
            if name in self._things:
                taken = getattr(self._things[name], "__module__", "another module")
                raise ScfsError(f"{self.key} = {name!r}: registered twice, the first time by {taken}")
            self._things[name] = thing  # type: ignore[assignment]  # a decorator keeps the type of what it is given
            return thing

        return register

    def __getitem__(self, name: str) -> T:
        """Look a thing up.

        Raises:
            ScfsError: there is none of this name; the line has the key, the name and what is allowed.
        """
        if name not in self:
            raise ScfsError(f"{self.key} = {name!r}: not among {sorted(self)}")
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        """True if a thing of this name was added."""
        load_plugins()
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        load_plugins()
        return iter(list(self._things))

    def values(self) -> list[T]:
        """List the things."""
        return [self._things[name] for name in self]


class KindRegistry(Registry[type[T]]):
    """Configuration classes, each of which has the field `key`, a Literal of its own name.

    It is the annotation of a field that holds one of them: `Annotated[Protocol, EVALUATIONS]`. Errors and schema are
    those of a pydantic union with a discriminator.
    """

    def kind_of(self, thing: type[Any]) -> str:
        """Return the name of a class: the only value of its field."""
        return str(get_args(thing.model_fields[self.key].annotation)[0])

    def add_kind(self, thing: Added) -> Added:
        """Add a class (a decorator)."""
        return self.add(self.kind_of(thing))(thing)  # type: ignore[arg-type]  # a class of this registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Give pydantic the union of what is registered now."""
        return handler.generate_schema(Annotated[Union[tuple(self.values())], Field(discriminator=self.key)])  # noqa: UP007


@dataclass(frozen=True)
class NameIn:
    """Annotation of a text field that holds a name of a registry: `Annotated[str, NameIn(BACKBONES)]`.

    Errors and schema are those of a Literal of the names.
    """

    registry: Registry[Any]
    allowed: Callable[[Any], bool] = lambda thing: True
    """Which of the registry's things the field may name."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Give pydantic the names that are registered now."""
        return core_schema.literal_schema([name for name in self.registry if self.allowed(self.registry[name])])
