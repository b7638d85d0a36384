"""Commands that start at once: a process that has imported what they need forks one of itself for each.

The imports of torch, Snakemake and DVC are most of what a small job costs. Where a test starts many commands, it takes
`scfs`, `snakemake`, `dvc` and `warm-python` from the folder of `warm_programs`; each does what the real one does: in the
folder, with the environment and the open files of its caller, by the code that PYTHONPATH names. SIGINT, SIGTERM and
SIGKILL reach it. Real commands are needed for a signal to a process group, and for more than one thread.
"""

import atexit
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHARED = "SCFS_WARM_PROGRAMS"
"""Variable with the folder of `start`, for the processes of one pytest."""
PROGRAMS = {"scfs": "scfs.cli", "snakemake": "snakemake.cli", "dvc": "dvc.cli", "warm-python": __name__}
"""Each with the module whose `main` it calls."""
HEAVY = (
    *("torch", "torch.optim", "torchvision", "timm.models.vision_transformer", "safetensors.torch", "numpy", "cv2"),
    *("simplejpeg", "PIL.Image", "scipy.io", "matplotlib.pyplot", "pyarrow.parquet", "pyarrow.compute", "pydantic"),
    *("yaml", "jinja2", "typer", "tqdm", "snakemake.cli", "snakemake.api", "dvc.cli", "dvc.repo", "dvc.commands.repro"),
)
ORDINARY = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
"""A root that may write into no file whose mode forbids it, as others may not: DVC's links to its cache are such files."""

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = "own" if os.environ.get("PYTHONPATH", "").split(os.pathsep)[0] == {root!r} else "copies"
request = json.dumps({{"argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ)}}).encode()
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.path.join({folder!r}, server))
socket.send_fds(connection, [len(request).to_bytes(8, "little")], [0, 1, 2])
connection.sendall(request)
answers = connection.makefile()
process = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(process, number))
sys.exit(int(answers.readline() or 1))
"""


@cache
def warm_programs() -> Path:
    """Folder of the programs: this process's, or those of the pytest that has started this one with others."""
    folder = Path(os.environ[SHARED]) if SHARED in os.environ else start()
    end = time.monotonic() + 300
    while not all((folder / f"{server}.ready").exists() for server in ("copies", "own")):
        assert time.monotonic() < end and all(server.poll() is None for server in _kept), "no warm processes"
        time.sleep(0.05)
    return folder / "bin"


def start() -> Path:
    """Start the two processes, which end with this one; they are ready some seconds later. Returns their folder."""
    folder = Path(tempfile.mkdtemp(prefix="scfs-warm-"))
    for name in PROGRAMS:
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(CLIENT.format(python=sys.executable, root=str(ROOT), folder=str(folder)))
        program.chmod(0o755)
    python = folder / "bin" / "python"  # for what finds its programs beside the interpreter
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    server = subprocess.Popen(
        [*ORDINARY, sys.executable, __file__, str(folder)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _kept.append(server)
    return folder


_kept: list[subprocess.Popen[bytes]] = []
"""Its stdin is closed with this process, which ends the servers."""


def serve(folder: Path) -> None:
    """Serve copies of the repository, by the code that each brings along, and beside it the repository itself."""
    sys.path = [place for place in sys.path if Path(place or ".").resolve() not in (ROOT, ROOT / "tests")]
    for name in HEAVY:
        importlib.import_module(name)
    if os.fork():
        _accept(folder / "copies")
    else:
        sys.path.insert(0, str(ROOT))
        import scfs

        for module in pkgutil.walk_packages(scfs.__path__, "scfs."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        _accept(folder / "own")
    shutil.rmtree(folder, ignore_errors=True)


def _accept(address: Path) -> None:
    """Answer requests until stdin is closed; in a forked process, return after its command."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(address))
    server.listen(64)
    gc.collect()
    gc.freeze()  # what the collector does not touch stays shared
    address.with_suffix(".ready").touch()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        readable, _, _ = select.select([server, 0], [], [])
        if 0 in readable:
            return
        connection, _ = server.accept()
        if not os.fork():
            server.close()
            _run(connection)
        connection.close()


def _run(connection: socket.socket) -> None:
    """Do as the program would, and end this process; its exit code is sent last of all."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    content = connection.makefile("rb").read(int.from_bytes(size, "little"))
    request = json.loads(content)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    # A caller that is killed takes the command along: the kernel sends the signal when the connection is closed.
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    sys.path[:0] = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.argv = request["argv"]
    connection.sendall(f"{os.getpid()}\n".encode())
    try:
        name = PROGRAMS[Path(sys.argv[0]).name]
        program: Any = sys.modules[name] if name == __name__ else importlib.import_module(name)
        code = program.main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    number = code if isinstance(code, int) else int(code is not None)
    _at_exit.append((connection, number))
    sys.exit(number)


def main() -> None:
    """Run a file, the module after -m or the text after -c, as Python would; what is printed is never held back."""
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    first, *sys.argv[1:] = sys.argv[1:] if sys.argv[1] != "-u" else sys.argv[2:]
    sys.argv[0] = first
    if first == "-c":
        exec(sys.argv.pop(1), {"__name__": "__main__"})
        return
    if first == "-m":
        runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
        return
    sys.path.insert(0, str(Path(first).parent))
    runpy.run_path(first, run_name="__main__")


_at_exit: list[tuple[socket.socket, int]] = []


def _send_exit_code() -> None:
    for connection, number in _at_exit:
        sys.stdout.flush()
        sys.stderr.flush()
        fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) & ~os.O_ASYNC)
        connection.sendall(f"{number}\n".encode())
        if "coverage" not in sys.modules:  # which has yet to write its file
            os._exit(number)  # to take all modules down would touch every page that is shared until then


if __name__ == "__main__":
    atexit.register(_send_exit_code)  # first, so that it is called after all others
    serve(Path(sys.argv[1]))
