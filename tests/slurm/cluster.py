"""A real SLURM of two nodes on this machine: two slurmd with false GPUs, no systemd; on wish with accounting.

Its daemons are children of the tests and end with them. It takes /etc/slurm, since Snakemake's executor does not pass
SLURM_CONF on, and needs the names n1 and n2 in /etc/hosts: hence root, and never where a SLURM is set up already.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ETC = Path("/etc/slurm")
COMMANDS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db")
NODES = ("n1", "n2")

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort=26817
SlurmdPort=26818
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=10
MinJobAge=600
MessageTimeout=20
SlurmdTimeout=10
InactiveLimit=0
GresTypes=gpu
NodeName=n[1-2] NodeHostName={host} NodeAddr=127.0.0.1 Port=[26821-26822] CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes=n[1-2] Default=YES MaxTime=24:00:00 State=UP PriorityTier=1 GraceTime=30
PartitionName=high Nodes=n[1-2] MaxTime=24:00:00 State=UP PriorityTier=10 PreemptMode=OFF
"""
STORAGE = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=26819
AccountingStoragePass={folder}/run/munge.sock
AccountingStoreFlags=job_comment
"""
DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort=26819
SlurmUser=root
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def impossible(accounting: bool) -> str:
    """Why no cluster can be started here; empty if one can."""
    missing = [name for name in COMMANDS + (ACCOUNTING if accounting else ()) if shutil.which(name) is None]
    if missing:
        return f"no SLURM on this machine: {', '.join(missing)} not found (.ci/run installs them)"
    if os.geteuid() != 0:
        return "a SLURM of its own needs root: /etc/slurm, /etc/hosts, device files"
    conf = ETC / "slurm.conf"
    if conf.exists() and not conf.is_symlink():
        return f"{conf} exists: this machine belongs to a SLURM cluster"
    return ""


class Cluster:
    """Two nodes."""

    def __init__(self, folder: Path, accounting: bool) -> None:
        self.folder, self.accounting = folder, accounting
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in ("run", "log", "state", "etc", "dev", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self._configure()
        self._daemon("munged", "munged", "-F", "--force", "--num-threads=4", *self._munge())
        self._until(lambda: self._ok("munge", "-S", str(self.folder / "run/munge.sock"), "-n"), "munged")
        if self.accounting:
            self._start_database()
        self._daemon("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        self._until(lambda: self.idle() == 2, "two idle nodes", 60)

    def stop(self) -> None:
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=30)
        for name in reversed(self.daemons):
            self.daemons[name].terminate()
        for daemon in reversed(self.daemons.values()):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self.processes("slurmstepd"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
            (ETC / name).unlink(missing_ok=True)

    def start_node(self, node: str) -> None:
        self._daemon(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """As if its power failed: the daemon and all that runs under it, at once; returns when SLURM has noticed."""
        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        tasks = [pid for pid in map(int, _numbers(Path("/proc"))) if _environment(pid).get("SLURMD_NODENAME") == node]
        keepers = {parent for pid in tasks if (parent := _parent(pid)) in self.processes("slurmstepd")}
        for pid in (*keepers, *tasks):  # first those that would report the end of the others
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._until(lambda: self.node_state(node).startswith("down"), f"{node} to be down", 120)

    def node_state(self, node: str) -> str:
        said = subprocess.run(["sinfo", "-h", "-N", "-n", node, "-o", "%T"], capture_output=True, text=True)
        return said.stdout.split()[0] if said.stdout else ""

    def processes(self, name: str) -> list[int]:
        """Processes with this name."""
        found = []
        for status in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if status.read_text().strip() == name:
                    found.append(int(status.parent.name))
        return found

    def idle(self) -> int:
        said = subprocess.run(["sinfo", "-h", "-p", "gpu", "-t", "idle", "-o", "%D"], capture_output=True, text=True)
        return sum(map(int, said.stdout.split()))

    def settle(self, seconds: float = 120) -> None:
        """Wait until no job is left and both nodes are idle."""
        subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=30)
        self._until(lambda: self.idle() == 2, "two idle nodes", seconds)

    def _configure(self) -> None:
        host, etc = socket.gethostname(), self.folder / "etc"
        values = {"host": host, "folder": self.folder}
        storage = STORAGE if self.accounting else "AccountingStorageType=accounting_storage/none\n"
        (etc / "slurm.conf").write_text((CONF + storage).format(**values))
        (etc / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={self.folder}/dev/nvidia[0-1]\n")
        (etc / "munge.key").write_bytes(os.urandom(1024))
        (etc / "munge.key").chmod(0o400)
        for number in (0, 1):
            os.mknod(self.folder / f"dev/nvidia{number}", 0o666 | 0o020000, os.makedev(1, 3))
        hosts = Path("/etc/hosts")
        if not any({"n1", "n2"} <= set(line.split()) for line in hosts.read_text().splitlines()):
            hosts.write_text(f"{hosts.read_text().rstrip()}\n127.0.0.1 n1 n2\n")
        ETC.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(etc / name)

    def _munge(self) -> list[str]:
        run = self.folder / "run"
        files = {
            "key-file": self.folder / "etc/munge.key",
            "socket": run / "munge.sock",
            "pid-file": run / "munged.pid",
        }
        files |= {"log-file": self.folder / "log/munged.log", "seed-file": run / "munge.seed"}
        return [f"--{name}={path}" for name, path in files.items()]

    def _start_database(self) -> None:
        folder, socket_ = self.folder / "db", self.folder / "run/my.sock"
        folder.mkdir()
        install = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}", "--skip-test-db"]
        subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
        options = ["--no-defaults", "--user=root", f"--datadir={folder}", f"--socket={socket_}", "--skip-networking"]
        options += [f"--pid-file={self.folder}/run/my.pid", "--innodb-lock-wait-timeout=900"]
        self._daemon("mariadbd", "mariadbd", *options, "--innodb-flush-log-at-trx-commit=0")
        client = ["mariadb", "--no-defaults", "-S", str(socket_), "-u", "root", "-e"]
        self._until(lambda: self._ok(*client, "select 1"), "mariadbd", 60)
        grant = "CREATE USER 'slurm'@'localhost' IDENTIFIED BY 'slurm'; GRANT ALL ON *.* TO 'slurm'@'localhost'"
        subprocess.run([*client, grant], check=True)
        conf = self.folder / "etc/slurmdbd.conf"
        conf.write_text(DATABASE.format(host=socket.gethostname(), folder=self.folder))
        conf.chmod(0o600)
        (ETC / "slurmdbd.conf").unlink(missing_ok=True)
        (ETC / "slurmdbd.conf").symlink_to(conf)
        self._daemon("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(socket_))
        self._until(lambda: self._ok("sacctmgr", "-n", "show", "cluster"), "slurmdbd", 60)

    def _daemon(self, name: str, *command: str, **environment: str) -> None:
        with (self.folder / f"log/{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **environment}
            )

    def _ok(self, *command: str) -> bool:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0

    def _until(self, ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                logs = "\n".join(f"{p.name}: {p.read_text()[-800:]}" for p in (self.folder / "log").iterdir())
                raise TimeoutError(f"waited {seconds} s for {what}\n{logs}")
            time.sleep(0.25)


def _environment(pid: int) -> dict[str, str]:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(os.fsdecode(entry).partition("=")[::2] for entry in entries if b"=" in entry)  # type: ignore[misc]


def _numbers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
