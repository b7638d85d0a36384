"""JSON schema of params.yaml, made from the configuration classes, for editors and for Snakemake."""

from typing import Any

from pydantic.json_schema import models_json_schema

from scfs.config.base import NAME
from scfs.config.imported import Imported
from scfs.config.pretrain import Pretrain
from scfs.config.study import Study


def params_schema() -> dict[str, Any]:
    """Schema (draft 2020-12) of a study; shared settings and runs may each leave out any key of Pretrain."""
    _, schema = models_json_schema([(Study, "validation"), (Pretrain, "validation"), (Imported, "validation")])
    definitions = schema["$defs"]
    definitions["Pretrain"].pop("required")
    study = definitions.pop("Study")
    settings = {"$ref": "#/$defs/Pretrain"}
    study["properties"]["pretrain"].update(settings)
    run = {"anyOf": [settings, {"$ref": "#/$defs/Imported"}]}
    study["properties"]["runs"]["patternProperties"] = {NAME: run}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **study, "$defs": definitions}
