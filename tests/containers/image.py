"""An image of docker/Dockerfile, and commands in it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository import ROOT

FULL = bool(os.environ.get("SCFS_IMAGE_TEST"))
NEEDED = ("buildah", "podman", "mmdebstrap", "apptainer")


@dataclass(frozen=True)
class Image:
    tag: str
    base: str

    @classmethod
    def build(cls, tag: str, base: str, checkout: Path, *arguments: str) -> "Image":
        requirements = "envs/runtime.txt" if FULL else "envs/slim.txt"
        environment = {**os.environ, "BASE_IMAGE": base, "REQUIREMENTS": requirements}
        subprocess.run([checkout / "docker/build.sh", tag, *arguments], check=True, env=environment)
        return cls(tag, base)

    def inspect(self) -> dict[str, Any]:
        """What podman knows of it: Id (the digest of its configuration), Digest, Config, History, RootFS."""
        said = subprocess.run(["podman", "image", "inspect", self.tag], check=True, capture_output=True, text=True)
        return json.loads(said.stdout)[0]

    @property
    def digest(self) -> str:
        return f"sha256:{self.inspect()['Id']}"

    @property
    def requirements(self) -> Path:
        return ROOT / ("envs/runtime.txt" if FULL else "envs/slim.txt")

    def command(self, *command: str | Path) -> list[str | Path]:
        """By docker/run.sh, in the working folder."""
        return [ROOT / "docker/run.sh", f"IMAGE={self.tag}", "--", *command]

    def run(self, folder: Path, *command: str | Path, **environment: str) -> str:
        """What a command in the image prints; it must end well."""
        told = {**os.environ, **environment}
        done = subprocess.run(self.command(*command), cwd=folder, env=told, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
