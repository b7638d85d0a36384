"""The base of every configuration class: frozen, no unknown keys, a docstring under each field (for the schema)."""

import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from scfs.config.registry import Registry
from scfs.config.strict_yaml import load_yaml
from scfs.errors import ScfsError, refusing, shorten

NAME = r"^[a-z0-9][a-z0-9_-]*$"
"""Names of studies, data sets, splits, runs and evaluations: they become names of files and folders."""

Name = Annotated[str, Field(pattern=NAME, max_length=100)]
Positive = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""A seed that torch's and NumPy's generators and Philox's 64-bit key all take."""


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("must be [low, high] with low <= high")
    return pair


ORDERED = AfterValidator(_ordered)
"""Annotation of a pair, the lower number of which comes first."""
Scale = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], ORDERED]
"""Least and largest share of an image's area that a crop covers."""

FIRST_FIELDS: dict[str, list[str]] = json.loads(Path(__file__).with_name("first_fields.json").read_text())
"""Fields by class that identities and records have held from the beginning, at their defaults too. Never add to it."""
EVERY_FIELD = "every field"


class Config(BaseModel):
    """Base of all configuration classes.

    A class may get new fields at any time, if the default of each is what was done before. `model_dump`, from which all
    identities and records are made, leaves out a field that equals its default, unless FIRST_FIELDS names it. So a
    new field changes no identity and no record until a study gives it another value.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # what a registry holds is known after the plugins are loaded, see registry.py
    )

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        if info.context == EVERY_FIELD:
            return values
        first = FIRST_FIELDS.get(type(self).__name__, ())
        return {name: value for name, value in values.items() if name in first or not self._is_default(name)}

    def _is_default(self, name: str) -> bool:
        default = type(self).model_fields[name].get_default(call_default_factory=True, validated_data={})
        return bool(getattr(self, name) == default)

    def flattened(self) -> dict[str, Any]:
        """Return the plain value of every field, new ones too, by dotted key."""
        return flattened(self.model_dump(mode="json", context=EVERY_FIELD))


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dictionaries by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def first_difference(recorded: Any, wanted: Config, source: str) -> tuple[str, Any, Any] | None:
    """Compare a record's plain values with a configuration: dotted key and both values of the first that differs.

    What the record lacks counts as the default that the class has today.

    Raises:
        ScfsError: today's class does not know a key of the record, or does not allow a value; one line, see `parse`.
    """
    was, now = parse(type(wanted), recorded, source).flattened(), wanted.flattened()
    keys = (key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key))
    return next(((key, was.get(key), now.get(key)) for key in keys), None)


def first_problem(source: str, error: ValidationError, model: type[Config] | None = None) -> ScfsError:
    """Turn pydantic's report into the project's one line: file, key, value, what is allowed.

    What stands in the file comes before what is missing there: a misspelt key is often both. Where the model is given,
    an unknown key comes with the known one that is most like it.
    """
    problem = min(error.errors(include_url=False), key=lambda one: one["type"] == "missing")
    place = list(problem["loc"])
    similar = get_close_matches(str(place[-1]), _keys_at(model, place[:-1]), 1) if model and place else []
    if model and len(place) == 1 and not similar:  # the key may stand elsewhere
        below = {key: f"{name}.{key}" for name in _keys_at(model, []) for key in _keys_at(model, [name])}
        similar = [below[key] for key in get_close_matches(str(place[-1]), below, 1)]
    if place[:1] in (["data"], ["evaluate"], ["figures"]):
        del place[2:3]  # pydantic puts the value of `source` or `kind` there, which is no key of the file
    key = shorten(".".join(str(part) for part in place) or "(top level)")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    context: dict[str, Any] = problem.get("ctx", {})
    tag = f"{key}.{context.get('discriminator', '').strip(chr(39))}"
    texts = {
        "extra_forbidden": f"unknown key '{key}'" + "".join(f" (did you mean '{name}'?)" for name in similar),
        "missing": f"key '{key}' is missing",
        "union_tag_invalid": f"{tag} = {shorten(repr(context.get('tag')))}: not among {context.get('expected_tags')}",
        "union_tag_not_found": f"key '{tag}' is missing",
        "value_error": f"{key}: {problem['msg'].removeprefix('Value error, ')}",
    }
    text = texts.get(problem["type"], f"{key} = {shorten(repr(problem['input']))}: {problem['msg']}")
    return ScfsError(f"{source}: {text}{more}")


def _keys_at(model: type[Config], place: Iterable[Any]) -> list[str]:
    """List the keys that are known at a place of a model; where there are several kinds, those of all."""
    classes = [model]
    for part in place:
        fields = [one.model_fields[part] for one in classes if part in one.model_fields]
        classes = [one for field in fields for one in _classes_in(field.annotation)] if fields else classes
    return [name for one in classes for name in one.model_fields]


def _classes_in(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    inner = annotation.values() if isinstance(annotation, Registry) else get_args(annotation)
    return [one for item in inner for one in _classes_in(item)]


C = TypeVar("C", bound=Config)


def parse(model: type[C], values: Any, source: str) -> C:
    """Validate `values` as `model`.

    Raises:
        ScfsError: one line that names `source`, the key, the value and what is allowed.
    """
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        raise first_problem(source, error, model) from None
    for key in _taken_for_numbers(values, made):
        raise ScfsError(f"{source}: {key}: true and false are no numbers")
    return made


def _taken_for_numbers(values: Any, made: Any, key: str = "") -> Iterator[str]:
    """Yield the dotted keys where true or false stands for 1 or 0, which pydantic lets pass."""
    inner: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(values, Mapping):
        results = made if isinstance(made, Mapping) else vars(made)
        inner = ((name, value, results.get(name, value)) for name, value in values.items())
    elif isinstance(values, list | tuple):
        inner = zip(range(len(values)), values, made, strict=False)
    elif isinstance(values, bool) and not isinstance(made, bool):
        yield key
    for name, value, result in inner:
        yield from _taken_for_numbers(value, result, f"{key}.{name}".removeprefix("."))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def parse_value(text: str, source: str) -> Any:
    """Return the value of a YAML text that a user gave on the command line or in the environment.

    Raises:
        ScfsError: it is not YAML; one line that begins with `source`.
    """
    with refusing(f"{source}: not valid YAML", yaml.YAMLError):
        return load_yaml(text)


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn "optimizer.lr=0.2" into {"optimizer": {"lr": 0.2}}; later pairs win. Values are YAML.

    Raises:
        ScfsError: a pair without "=" or whose value is not YAML.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            raise ScfsError(f"--set {pair!r}: expected KEY=VALUE, such as optimizer.lr=0.2")
        result = merged(result, nested(key, parse_value(text, f"--set {pair!r}")))
    return result


def nested(key: str, value: Any) -> dict[str, Any]:
    """Turn a dotted key and its value into nested dictionaries."""
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}
