"""Log files of a job's processes, which lie in the job's folder: one for each rank."""

import re
from pathlib import Path

from scfs.io.progress import log

ERROR = re.compile(r"(scfs: |\w*Error\b|\w*Exception\b|Traceback )")
STARTED = "scfs-job: a process starts"
"""First line of each process at each start of the job: a job that is queued again goes on in the same files."""
NOT_SHOWN = re.compile(rf"submitit (INFO|WARNING) |{STARTED}")
"""Lines that no user needs."""
LOST = re.compile(r"srun: error: \S+: tasks? (\d+)[\d,-]*: (?!Exited|Terminated)")
"""srun names the process that a signal ended (Killed, Segmentation fault), not those that it then ends itself."""
EXITED = re.compile(r"srun: error: \S+: tasks? (\d+)[\d,-]*: ")
SHOWN = 15
"""Number of last lines of a failed process that a launcher shows."""


def rank_log(folder: Path, job: str, rank: int) -> Path:
    """Return the file of a process's standard error; the first one's also has what srun says."""
    return folder / "logs" / f"{job}_{rank}_log.err"


def ranks(folder: Path, job: str) -> list[int]:
    """List the ranks of a job that have a log."""
    return sorted(int(path.name.split("_")[1]) for path in (folder / "logs").glob(f"{job}_*_log.err"))


def newest_job(folder: Path) -> str | None:
    """Return the job that wrote last."""
    logs = sorted((folder / "logs").glob("*_log.err"), key=lambda path: path.stat().st_mtime)
    return logs[-1].name.split("_")[0] if logs else None


def lines_of(path: Path) -> list[str]:
    """Return the lines of a log since the job started last, without Submitit's own."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    text = text.rpartition(STARTED)[2].partition("\n")[2] if STARTED in text else text
    return [line for line in text.splitlines() if line.strip() and not NOT_SHOWN.match(line)]


def failed_rank(folder: Path, job: str) -> int:
    """Return the rank that failed first, as far as the logs tell; 0 if they do not."""
    srun_lines = lines_of(rank_log(folder, job, 0))
    lost = [int(found[1]) for line in srun_lines if (found := LOST.match(line))]
    if lost:
        return lost[0]
    for rank in ranks(folder, job):
        own = [line for line in lines_of(rank_log(folder, job, rank)) if not line.startswith(("srun:", "slurmstepd:"))]
        if any(ERROR.match(line) for line in own[-SHOWN:]):
            return rank
    exited = [int(found[1]) for line in srun_lines if (found := EXITED.match(line))]
    return exited[0] if exited else 0


class Follower:
    """Log of the first process, passed on line by line."""

    def __init__(self, folder: Path, job: str, from_now: bool = False) -> None:
        """Begin with the first line, or only with what is written from now on."""
        self.path = rank_log(folder, job, 0)
        self._read = self.path.stat().st_size if from_now and self.path.is_file() else 0
        self._rest = ""

    def pass_on(self) -> None:
        """Log the lines that are new."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return
        self._read += len(new)
        *lines, self._rest = (self._rest + new.decode(errors="replace")).split("\n")
        for line in lines:
            if line.strip() and not NOT_SHOWN.match(line):
                log(line)
