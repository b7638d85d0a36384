"""Print every job of the Snakefile in the working folder as JSON, without running any (private calls of Snakemake 9)."""

import json
import sys
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    DeploymentSettings,
    OutputSettings,
    ResourceSettings,
    StorageSettings,
    WorkflowSettings,
)


def jobs(config_files: list[Path]) -> list[dict[str, Any]]:
    with SnakemakeApi(OutputSettings(dryrun=True)) as api:
        workflow_api = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=config_files),
            storage_settings=StorageSettings(),
            workflow_settings=WorkflowSettings(),
            deployment_settings=DeploymentSettings(),
            snakefile=Path("Snakefile"),
        )
        workflow = workflow_api.dag(DAGSettings(forceall=True)).workflow_api._workflow
        workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        return [
            {
                "rule": job.rule.name,
                "wildcards": job.wildcards_dict,
                "input": [str(path) for path in job.input],
                "output": [str(path) for path in job.output],
                "log": [str(path) for path in job.log],
                "params": dict(job.params.items()),
                "threads": job.threads,
                "command": job.shellcmd and job.shellcmd.removeprefix("SCFS_LAUNCH= "),  # none is set here
            }
            for job in workflow.dag.jobs
        ]


print(json.dumps(jobs([Path(argument) for argument in sys.argv[1:]])))
