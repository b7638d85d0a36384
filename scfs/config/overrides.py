"""Settings given on the command line as KEY=VALUE."""

from collections.abc import Iterable
from typing import Any

import yaml

from scfs.config.study import merged
from scfs.errors import ScfsError


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
