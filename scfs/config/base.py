"""What every configuration class shares: frozen, no unknown keys, a docstring under each field (for the schema)."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scfs.errors import ScfsError

NAME = r"^[a-z0-9][a-z0-9_-]*$"
"""Names of studies, data sets, splits, runs and evaluations: they become names of files and folders."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Seeds: what torch's and NumPy's generators and Philox's 64-bit key all take."""


class Config(BaseModel):
    """Base of all configuration classes."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # what a registry holds is known after the plugins are loaded, see registry.py
    )


def first_problem(source: str, error: ValidationError) -> ScfsError:
    """Turn pydantic's report into the project's one line: file, key, value, what is allowed."""
    problem = error.errors(include_url=False)[0]
    place = list(problem["loc"])
    if place[:1] in (["data"], ["evaluate"]):
        del place[2:3]  # pydantic puts the value of `source` or `kind` there, which is no key of the file
    key = ".".join(str(part) for part in place) or "(top level)"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        return ScfsError(f"{source}: unknown key '{key}'{more}")
    if problem["type"] == "missing":
        return ScfsError(f"{source}: key '{key}' is missing{more}")
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        tag = context["discriminator"].strip("'")
        return ScfsError(f"{source}: {key}.{tag} = {context['tag']!r}: not among {context['expected_tags']}{more}")
    if problem["type"] == "union_tag_not_found":
        return ScfsError(f"{source}: key '{key}.{problem['ctx']['discriminator'].strip(chr(39))}' is missing{more}")
    if problem["type"] == "value_error":
        return ScfsError(f"{source}: {key}: {problem['msg'].removeprefix('Value error, ')}{more}")
    return ScfsError(f"{source}: {key} = {problem['input']!r}: {problem['msg']}{more}")


def parse(model: type[Config], values: Any, source: str) -> Any:
    """Validate `values` as `model`.

    Raises:
        ScfsError: one line that names `source`, the key, the value and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise first_problem(source, error) from None


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


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
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ScfsError(f"--set {pair!r}: the value is not valid YAML") from None
        for part in reversed(key.split(".")):
            value = {part: value}
        result = merged(result, value)
    return result
