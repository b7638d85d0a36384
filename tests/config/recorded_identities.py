"""The identities of all studies, as they were when the first results were published: identities.json holds them.

After a deliberate change of a study, `python tests/config/recorded_identities.py` writes the file anew.
"""

import json
from pathlib import Path

from scfs.config.identity import evaluate_identity, prepare_identity, pretrain_identity
from scfs.config.study import Study, load_study
from scfs.pipeline.jobs import parameters_hash

FILE = Path(__file__).with_name("identities.json")
STUDIES = ["params.yaml", *sorted(map(str, Path("config").glob("*/params.yaml")))]
STAGES = {"evaluate": ("evaluate",), "finetune": ("tune", "finetune"), "detect": ("detect", "average")}


def identities(study: Study) -> dict[str, str]:
    """Return the identity of each data set, run and evaluation, and the hash of what makes each job stale."""
    found = {f"data.{name}": prepare_identity(study, name) for name in study.data}
    found |= {f"runs.{name}": pretrain_identity(study, name) for name in study.runs}
    found |= {f"evaluate.{name}": evaluate_identity(study, name) for name in study.evaluate}
    of_jobs = [(stage, name) for name in study.data for stage in ("prepare", "inspect")]
    of_jobs += [("import_weights" if study.imported(name) else "pretrain", name) for name in study.runs]
    of_jobs += [(stage, name) for name, protocol in study.evaluate.items() for stage in STAGES[protocol.stage]]
    return found | {f"{stage} {name}": parameters_hash(study, stage, name) for stage, name in of_jobs}


def of_all_studies() -> dict[str, dict[str, str]]:
    """Return the identities by study; the working folder is a repository's root."""
    return {file: identities(load_study(Path(file))) for file in STUDIES}


if __name__ == "__main__":
    FILE.write_text(json.dumps(of_all_studies(), indent=0, sort_keys=True) + "\n")
