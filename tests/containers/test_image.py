"""The image: what is in it and what is not, how it is confined, and that it does what the environment outside does."""

import csv
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from image import Image
from repository import command_environment, git

from scfs.io.results import sha256_of

STUDY = {
    "study": "small",
    "scale": "a few images, for a test",
    "torch_threads": 1,
    "data": {
        "scenes": {
            "source": "garment-scenes",
            "seed": 0,
            "splits": {"train": {"scenes": 12}, "val": {"scenes": 6, "part": "test"}},
        }
    },
    "pretrain": {
        "dataset": "scenes",
        "split": "train",
        "backbone": "narrow_resnet18",
        "epochs": 0,
        "batch": 6,
        "optimizer": {"warmup_epochs": 0},
    },
    "runs": {"small": {}},
    "tables": {},
}
TARGET = "results/data/scenes.json"
"""Data and its inspection: two rules without torch."""


@pytest.fixture
def small(checkout: Path) -> Path:
    (checkout / "params.yaml").write_text(yaml.safe_dump(STUDY))
    return checkout


def snakemake(folder: Path, *arguments: str, **environment: str) -> str:
    told = {**command_environment(folder), **environment}
    done = subprocess.run(["snakemake", *arguments], cwd=folder, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def hashes(folder: Path) -> dict[str, str]:
    """Of all that the two rules leave."""
    files = [path for part in ("data", "results/data") for path in sorted((folder / part).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_its_labels_say_what_it_is_and_its_user_is_not_root(image: Image, checkout: Path) -> None:
    config = image.inspect()["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert (labels["title"], labels["licenses"], labels["version"]) == ("scfs", "Apache-2.0", "0.1.0")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert config["User"] == "1000:1000"
    assert image.run(checkout, "cat", "/opt/scfs/REVISION").strip() == labels["revision"]


def test_nothing_of_the_building_machine_stays_in_it(image: Image, tmp_path: Path) -> None:
    inspected = json.dumps([image.inspect()["Config"], image.inspect()["History"]])
    hosts = set(
        re.findall(
            r"https?://([^/\s]+)", subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout
        )
    )
    assert not [host for host in hosts if host in inspected]
    image.run(
        tmp_path,
        "bash",
        "-c",
        "! ls /mnt/* /run/lent /etc/pip.conf /opt/venv/pip.conf 2> /dev/null",
    )
    left = image.run(
        tmp_path,
        "bash",
        "-c",
        "ls -d /build /bill /opt/tools /opt/venv/lib/python3*/site-packages/torch/include /var/lib/apt/lists/*_Packages 2> /dev/null || true",
    )
    assert left == ""


def test_a_command_is_confined(image: Image, tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)  # an owner that the image does not know
    said = image.run(
        tmp_path,
        "bash",
        "-c",
        "id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status; ls /sys/class/net; ! touch /x && ! touch /opt/x && touch here /tmp/x && scfs --version",
    )
    assert said.split() == ["12345", "CapEff:", "0" * 16, "NoNewPrivs:", "1", "lo", "scfs", "0.1.0"]
    assert (tmp_path / "here").stat().st_uid == 12345


def test_packages_and_licences_are_listed(image: Image, tmp_path: Path) -> None:
    bill = json.loads(image.run(tmp_path, "cat", "/usr/share/scfs/sbom.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    listed = {
        f"{part['name'].lower().replace('_', '-').replace('.', '-')}=={part['version']}" for part in bill["components"]
    }
    locked = set(re.findall(r"^([\w.-]+==[\w.+]+)", image.requirements.read_text(), re.MULTILINE))
    assert locked <= listed and len(locked) > 100
    licences = list(csv.DictReader(image.run(tmp_path, "cat", "/usr/share/scfs/licences.csv").splitlines()))
    assert len(licences) >= len(locked) and all(row["License"] for row in licences)
    assert "python3-minimal," in image.run(tmp_path, "cat", "/usr/share/scfs/debian.csv")


def test_the_lock_is_the_one_that_it_was_made_from(image: Image, tmp_path: Path) -> None:
    said = image.run(tmp_path, "bash", "-c", 'sha256sum < "$SCFS_LOCK"; echo "$SCFS_IMAGE_DIGEST"').split()
    assert said[0] == sha256_of(image.requirements) and said[-1] == image.digest


def test_a_change_of_the_project_leaves_the_layer_of_packages(image: Image, checkout: Path) -> None:
    before = image.inspect()["RootFS"]["Layers"]
    with (checkout / "scfs" / "__init__.py").open("a") as file:
        file.write("# changed\n")
    changed = Image.build(f"{image.tag}-changed", image.base, checkout)
    try:
        after = changed.inspect()["RootFS"]["Layers"]
        assert after[:-2] == before[:-2] and after[-2] != before[-2] and len(after) == len(before)
    finally:
        subprocess.run(["buildah", "rmi", changed.tag], check=True, capture_output=True)


def test_stages_inside_and_outside_leave_the_same_bytes(image: Image, sif: Path, small: Path, tmp_path: Path) -> None:
    """By podman, then by Snakemake with Apptainer, then without: nothing is done twice, and every byte is the same."""
    git(tmp_path, "clone", "--quiet", str(small), "podman")
    podman = tmp_path / "podman"
    (podman / "params.yaml").write_text((small / "params.yaml").read_text())
    image.run(podman, "bash", "-c", "scfs prepare scenes && scfs inspect scenes")

    said = snakemake(small, "--profile", "workflow/profiles/apptainer", TARGET, SCFS_IMAGE=str(sif))
    assert said.count("Activating singularity image") == 2
    assert "Nothing to be done" in snakemake(small, TARGET)
    inside = hashes(small)
    assert inside == hashes(podman) and TARGET in inside

    snakemake(small, "--forceall", TARGET)
    assert hashes(small) == inside
    again = snakemake(small, "--profile", "workflow/profiles/apptainer", TARGET, SCFS_IMAGE=str(sif))
    assert "Nothing to be done" in again
    assert not [line for line in git(small, "status", "--porcelain").splitlines() if line != " M params.yaml"]


def test_apptainer_knows_the_same_digest_and_user(sif: Path, image: Image, tmp_path: Path) -> None:
    command = ["apptainer", "exec", "--cleanenv", sif, "bash", "-c", "echo $SCFS_IMAGE_DIGEST; id -u; scfs --version"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert said.split() == [image.digest, str(os.getuid()), "scfs", "0.1.0"]


def test_an_image_that_is_not_there_is_one_line(image: Image, tmp_path: Path) -> None:
    missing = Image("localhost/scfs:no-such", image.base)
    done = subprocess.run(missing.command("scfs"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "localhost/scfs:no-such: no such image; docker/build.sh builds it" in done.stderr
