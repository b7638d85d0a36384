"""What a user sees who stops a training: a line at once, though the step goes on; and an end at once if asked again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = """
import hashlib, multiprocessing, sys, time
from scfs.runtime import stop_signals as stopping
stopping.SAME_PRESS = 0.3
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
with stopping.stop_signals(), stopping.stop_signals(lambda: 12.4) as received:
    child.start()
    print(child.pid, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", int(sys.argv[1]))  # one operation, in which Python handles no signal
child.kill()
print("ended", len(received))
"""


def started(rounds: int) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-c", CHILD, str(rounds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    return process, int(process.stdout.readline())


@pytest.mark.parametrize(("number", "again"), [(signal.SIGINT, "; again to stop at once"), (signal.SIGTERM, "")])
def test_the_first_signal_says_at_once_what_it_does(number: int, again: str) -> None:
    process, _ = started(400_000)
    for _ in range(2):  # a launcher sends on what its processes have had from the terminal
        process.send_signal(number)
    assert process.stderr and process.stdout
    assert process.stderr.readline() == f"stopping after this step (about 12 s){again}\n"
    assert process.poll() is None
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and output.startswith("ended ") and errors == ""


def test_the_second_press_ends_the_process_and_its_workers_at_once() -> None:
    process, child = started(10**9)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    process.stderr.readline()
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 130 and output == ""
    assert errors == "stopped at once; start again to resume at the last saved state\n"
    ends, state = time.monotonic() + 5, Path(f"/proc/{child}/stat")
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":  # init may reap it a moment later
        assert time.monotonic() < ends
        time.sleep(0.01)
