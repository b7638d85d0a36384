"""`make image-test`, an hour: two builds are one image; in it the fast tests pass, every rule of the demo's graph leaves the
bytes that it leaves outside, and SLURM's jobs run."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from image import Image
from repository import ROOT, command_environment, copy_repository

from scfs.io.results import sha256_of
from scfs.smoke.rehearsal import set_up

FAST = ["-q", "-n", "2", "-p", "no:cacheprovider", "-m", "not demo and not detectron2 and not slurm and not container"]
TOOLS = ("pytest", "pluggy", "iniconfig", "pytest-xdist", "execnet")
OWNER = 1000


def say(request: pytest.FixtureRequest, text: str) -> None:
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(text, flush=True)


def test_two_builds_are_one_image(image: Image, request: pytest.FixtureRequest) -> None:
    started = time.monotonic()
    again = Image.build(f"{image.tag}-again", image.base, ROOT, "--no-cache")
    try:
        first, second = image.inspect(), again.inspect()
        say(
            request,
            f"\n{first['Size'] / 1e9:.2f} GB, built again in {time.monotonic() - started:.0f} s: {second['Digest']}",
        )
        assert (first["Id"], first["Digest"]) == (second["Id"], second["Digest"])
    finally:
        subprocess.run(["buildah", "rmi", again.tag], check=True, capture_output=True)


def hand_over(folder: Path) -> None:
    """To a user who is not root, with the folders above."""
    subprocess.run(["chown", "-R", f"{OWNER}:{OWNER}", folder], check=True)
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o755)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner of tests, which the image does not have, from the lock of the tools."""
    folder = tmp_path_factory.mktemp("tools")
    entries = re.findall(r"^[\w.-]+==(?:.*\\\n)*.*\n", (ROOT / "envs/dev.txt").read_text(), re.MULTILINE)
    wanted = [entry for entry in entries if entry.split("==")[0] in TOOLS]
    assert len(wanted) == len(TOOLS)
    (folder / "tools.txt").write_text("".join(wanted))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", folder]
    subprocess.run([*install, "-r", folder / "tools.txt"], check=True)
    hand_over(folder)
    return folder


def test_the_fast_tests_pass_by_podman(image: Image, checkout: Path, tools: Path) -> None:
    hand_over(checkout)
    said = image.run(
        checkout, "bash", "-c", f"PYTHONPATH=/work:{tools} python -m pytest {shell(FAST)}", MOUNTS=str(tools)
    )
    assert re.search(r"\d+ passed", said), said[-3000:]


def test_the_fast_tests_pass_by_apptainer(sif: Path, checkout: Path, tools: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"  # Snakemake keeps its cache there
    home.mkdir()
    binds = ["--bind", f"{checkout},{tools}", "--pwd", checkout, "--env", f"PYTHONPATH={checkout}:{tools}"]
    command = ["apptainer", "exec", "--cleanenv", "--home", home, *binds, sif, "python", "-m", "pytest", *FAST]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"\d+ passed", done.stdout), done.stdout[-3000:] + done.stderr[-1000:]


def shell(arguments: list[str]) -> str:
    return " ".join(f"'{argument}'" for argument in arguments)


def leavings(folder: Path) -> dict[str, str]:
    """What a study leaves, without what is true of the occasion alone: hashes by name."""
    parts = ("data", "results", "checkpoints", "weights")
    files = [path for part in parts for path in sorted((folder / part).rglob("*")) if path.is_file()]
    # The report names the occasion too: when, where, by which command.
    kept = [path for path in files if not path.name.endswith((".run.json", ".html"))]
    return {str(path.relative_to(folder)): sha256_of(path) for path in kept}


def test_every_rule_of_the_demo_leaves_the_same_bytes_inside(
    image: Image, sif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside, by Snakemake with Apptainer, and wholly inside by podman; trainings of two steps on stand-in images."""
    outside, apptainer, podman = (copy_repository(tmp_path / name) for name in ("outside", "apptainer", "podman"))
    subprocess.run(["scfs", "smoke", "params.yaml"], cwd=outside, env=command_environment(outside), check=True)
    wanted = leavings(outside / "smoke/demo")
    assert sum(name.endswith(".safetensors") for name in wanted) >= 3 and len(wanted) > 30

    monkeypatch.chdir(apptainer)
    folder = set_up(Path("params.yaml")).resolve()
    for name in ("scfs", "workflow", "profiles", "Snakefile"):  # set_up links to the checkout that the tests import
        (folder / name).unlink()
        (folder / name).symlink_to(apptainer / name)
    environment = {**command_environment(apptainer), "SCFS_IMAGE": str(sif), "APPTAINER_BIND": str(apptainer)}
    command = ["snakemake", "--profile", "workflow/profiles/apptainer", "--configfile", "params.yaml"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    assert leavings(folder) == wanted
    again = subprocess.run(["snakemake", "-n"], cwd=folder, env=environment, capture_output=True, text=True)
    assert "Nothing to be done" in again.stdout + again.stderr

    hand_over(podman)
    image.run(podman, "scfs", "smoke", "params.yaml")
    assert leavings(podman / "smoke/demo") == wanted

    for place in (folder, podman / "smoke/demo"):
        occasions = [json.loads(path.read_text()) for path in place.rglob("*.run.json")]
        assert len(occasions) > 10
        assert {occasion["image_digest"] for occasion in occasions} == {image.digest}
        assert {occasion["lock_sha256"] for occasion in occasions} == {sha256_of(image.requirements)}
        assert all(re.fullmatch(r"[0-9a-f]{40}(-dirty)?", occasion["git"] or "") for occasion in occasions)


def test_jobs_of_slurm_run_in_it(sif: Path) -> None:
    assert shutil.which("slurmctld"), "SLURM is not installed; .ci/run installs it"
    command = [sys.executable, "-m", "pytest", "-q", ROOT / "tests/slurm/test_slurm_image.py"]
    done = subprocess.run(command, env={**os.environ, "SCFS_IMAGE": str(sif)}, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout and "skipped" not in done.stdout, done.stdout[-3000:]
