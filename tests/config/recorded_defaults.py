"""Defaults of all settings by stage, with the stage's version when they were noted: defaults.json holds them.

`make schema` runs this file, which writes them anew. A default that changed is refused until the version of its stage is
raised: the same params.yaml means something else then, which no graph and no identity of a newer field would notice.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scfs.config.data_source import SOURCES
from scfs.config.identity import STAGE_VERSIONS
from scfs.config.pretrain import Imported, Pretrain
from scfs.config.protocol import EVALUATIONS
from scfs.config.study import Study

FILE = Path(__file__).with_name("defaults.json")
Defaults = dict[str, dict[str, Any]]


def defaults() -> Defaults:
    """Return today's defaults as {stage: {"version": 1, "Class.field": default, ...}}."""
    roots: list[tuple[str, type[BaseModel]]] = [("pretrain", Pretrain), ("pretrain", Imported)]
    roots += [("prepare", source) for source in SOURCES.values()]
    roots += [(protocol.stage, protocol) for protocol in EVALUATIONS.values()]
    found: Defaults = {stage: {"version": version} for stage, version in STAGE_VERSIONS.items()}
    for stage, root in [*roots, ("report", Study)]:  # a class belongs to the first stage that uses it
        schema = root.model_json_schema()
        noted = {key.split(".")[0] for of_stage in found.values() for key in of_stage}
        for name, part in {root.__name__: schema, **schema.get("$defs", {})}.items():
            properties = {} if name in noted else part.get("properties", {})
            found[stage] |= {
                f"{name}.{key}": entry["default"] for key, entry in properties.items() if "default" in entry
            }
    return found


def problems(noted: Defaults, now: Defaults) -> list[str]:
    """Name the stages whose version must be raised, as defaults changed under the version that was noted."""
    found = []
    for stage in noted.keys() & now.keys():
        was, is_now = noted[stage], now[stage]
        changed = [key for key in sorted(was.keys() & is_now.keys()) if was[key] != is_now[key]]
        if changed and was["version"] == is_now["version"]:
            found.append(f"{', '.join(changed)}: another default: raise STAGE_VERSIONS[{stage!r}]")
    return found


if __name__ == "__main__":
    if FILE.exists() and (lines := problems(json.loads(FILE.read_text()), defaults())):
        sys.exit("\n".join(lines))
    FILE.write_text(json.dumps(defaults(), indent=1, sort_keys=True) + "\n")
