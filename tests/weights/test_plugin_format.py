"""A format from outside of the package: declared once, and known to the study, the schema, import, export and commands."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from layouts import library_model
from repository import ROOT, toy_environment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a study that takes a file of its format and asks for another."""
    whole = library_model("resnet18", "torchvision").state_dict()
    state = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in whole.items()}
    rest = {f"body.{key}": value for key, value in state.items() if not key.startswith(("conv1.", "fc."))}
    first = {"entry.convolution.weight": state["conv1.weight"]}
    torch.save({**first, **rest, "top.weight": state["fc.weight"], "top.bias": state["fc.bias"]}, tmp_path / "w.pth")
    torch.save({"teacher": {f"net.{key}": value for key, value in (first | rest).items()}}, tmp_path / "c.pth")
    study = {
        "study": "toy",
        "data": {"scenes": {"source": "garment-scenes", "splits": {"pretrain": {"scenes": 4}}}},
        "pretrain": {"dataset": "scenes", "backbone": "resnet18", "epochs": 1, "optimizer": {"warmup_epochs": 0}},
        "runs": {"ours": {}, "theirs": {"weights": "./w.pth", "format": "toy", "backbone": "resnet18"}},
        "convert": ["toy"],
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(study))
    return tmp_path


def scfs(folder: Path, *arguments: str, code: int = 0) -> str:
    return run(folder, "scfs", *arguments, code=code)


def run(folder: Path, *command: str, code: int = 0) -> str:
    environment = toy_environment("backbone_and_method", "weight_format", warm=True)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_format_of_a_plugin_goes_everywhere(folder: Path) -> None:
    listed = [line.split() for line in scfs(folder, "formats").splitlines()]
    assert ["toy", "yes", "yes", "resnet18,", "toy_net"] in listed
    assert ["toy-checkpoint", "yes", "resnet18,", "toy_net"] in listed
    assert '"toy-checkpoint"' in scfs(folder, "schema")
    scfs(folder, "import-weights", "--run", "theirs")
    scfs(folder, "convert", "--run", "theirs", "--to", "toy")
    written = json.loads((folder / "weights/theirs/toy.json").read_text())
    given = torch.load(folder / "w.pth", weights_only=True)
    assert written["shapes"] == {key: list(value.shape) for key, value in given.items()}
    assert (written["facts"]["library"], written["facts"]["architecture"]) == ("toy", "toy-18")
    checkpoint = ["--format", "toy-checkpoint", "--backbone", "resnet18", "--out", "out.safetensors"]
    assert "teacher; 120 tensors" in scfs(folder, "import-weights", "c.pth", *checkpoint)
    said = scfs(folder, "export", "out.safetensors", "--format", "toy-checkpoint", "--out", "out.pth", code=1)
    assert "resnet18 cannot be written as 'toy-checkpoint': allowed are ['torchvision', 'timm'" in said


def test_both_workflows_convert_to_a_format_of_a_plugin(folder: Path) -> None:
    for name in ("scfs", "workflow", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    scfs(folder, "dvc-file")
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    assert any("--to toy" in str(stage) and "toy.json" in str(stage) for stage in stages.values())
    schema = folder / "params.schema.json"  # of this checkout the plugin is no part
    schema.write_text(scfs(folder, "schema"))
    snakefile = (ROOT / "Snakefile").read_text().replace("workflow/schemas/params.schema.json", schema.name)
    (folder / "Snakefile").unlink()
    (folder / "Snakefile").write_text(snakefile)
    said = run(folder, "snakemake", "--cores", "1", "--dry-run", "--printshellcmds", "weights/ours/toy.json")
    assert "convert --run ours --to toy" in said and "convert_json" in said


def test_a_tensor_too_many_is_refused_in_the_formats_own_names(folder: Path) -> None:
    content = torch.load(folder / "w.pth", weights_only=True)
    torch.save({**content, "body.layer5.weight": torch.zeros(1)}, folder / "w.pth")
    said = scfs(folder, "import-weights", "--run", "theirs", code=1)
    assert "does not fit resnet18: 1 key ('body.layer5.weight') unknown" in said and said.count("\n") == 1
