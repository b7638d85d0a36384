"""YAML that means one thing: each key once, no NUL, no loops of aliases, and bounds for levels and values."""

from collections.abc import Iterator
from typing import Any

import yaml

DEEPEST = 50
"""Levels of a text, aliases written out; the largest study has 7."""
MOST_VALUES = 1_000_000
"""Values in a text, aliases written out; the largest study has some 4,000."""


class RefusedYamlError(yaml.YAMLError):
    """YAML that is not taken: the line and what is wrong there."""


def load_yaml(text: str) -> Any:
    """Return the values of a YAML text, which libyaml reads in a tenth of the time.

    Raises:
        yaml.YAMLError: the text is not YAML (the message is of Python's parser, as that one shows the place), or means
            more than one thing.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        events = yaml.parse(text, Loader=loader)
        sizes: dict[str, tuple[int, int]] = {}
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                _measure(event, events, sizes, 1)
        return yaml.load(text, Loader=loader)
    except RefusedYamlError:
        raise
    except yaml.YAMLError:
        yaml.safe_load(text)
        raise
    except (ValueError, LookupError, AttributeError, TypeError) as error:  # a date such as 2025-13-01; `!!float x`
        raise RefusedYamlError(str(error) if isinstance(error, ValueError) else repr(error)) from None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _measure(event: Any, events: Iterator[Any], sizes: dict[str, tuple[int, int]], level: int) -> tuple[int, int]:
    """Go through a node and what is in it, and return its levels and values, aliases written out.

    Args:
        event: the node's first event.
        events: those that follow; the node's own are taken.
        sizes: levels and values of the anchors before, to which its own are added.
        level: its level in the text.

    Raises:
        RefusedYamlError: see the module.
    """
    line = _line(event)
    limits = f"line {line}: allowed are {DEEPEST} levels and {MOST_VALUES} values, aliases written out"
    if level > DEEPEST:
        raise RefusedYamlError(limits)
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in sizes:
            raise RefusedYamlError(f"line {line}: alias {event.anchor!r} names nothing before it")
        return sizes[event.anchor]
    if isinstance(event, yaml.ScalarEvent) and "\0" in event.value:
        raise RefusedYamlError(f"line {line}: NUL is not allowed")
    levels, values, nodes = 1, 1, 0
    lines: dict[str, int] = {}
    while isinstance(event, yaml.CollectionStartEvent) and isinstance(inner := next(events), yaml.NodeEvent):
        if isinstance(event, yaml.MappingStartEvent) and isinstance(inner, yaml.ScalarEvent) and nodes % 2 == 0:
            key, here = inner.value, _line(inner)
            if key in lines:
                raise RefusedYamlError(f"key {key!r} stands in line {lines[key]} and again in line {here}")
            lines[key] = here
        deeper, more = _measure(inner, events, sizes, level + 1)
        levels, values, nodes = max(levels, deeper + 1), values + more, nodes + 1
        if level + deeper > DEEPEST or values > MOST_VALUES:
            raise RefusedYamlError(limits)
    if event.anchor:
        sizes[event.anchor] = levels, values
    return levels, values
