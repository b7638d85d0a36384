"""The application, the options that stand before a command, and what several commands share."""

import os
import shlex
import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scfs import __version__
from scfs.errors import ScfsError, is_utf8
from scfs.io.progress import copy_log, log, silence
from scfs.runtime.world import find_world

if TYPE_CHECKING:
    from scfs.config.study import Study

PARAMS = Path("params.yaml")
HELP = "Semantics-Consistent Feature Search (ICCV 2023): pre-training and its evaluations, one command per stage."

app = typer.Typer(help=HELP, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


def switch(name: str, help: str) -> Any:
    """Describe an option --NAME without a value, which SCFS_NAME in the environment sets too."""
    return typer.Option(f"--{name}", envvar=f"SCFS_{name.upper().replace('-', '_')}", help=help)


Run = Annotated[str, typer.Option("--run", metavar="RUN", help="Name of a run in the study.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute; auto: a GPU if there is one.")]
Colour = Annotated[
    Literal["auto", "cpu", "device"],
    typer.Option("--colour", "--color", envvar="SCFS_COLOUR", help="Where to augment; auto: on a GPU if it computes."),
]
Workers = Annotated[int | None, typer.Option(min=0, help="Image readers.  [default: half of the spare cores]")]
SaveEvery = Annotated[float, typer.Option(min=0, envvar="SCFS_SAVE_EVERY", help="Seconds between saved states.")]
LogTo = Annotated[
    list[str] | None, typer.Option(envvar="SCFS_LOG_TO", help="Scalars to jsonl, wandb or mlflow too; repeatable.")
]
Checkpointing = Annotated[bool, switch("activation-checkpointing", "Less memory, slower; the same result to the bit.")]
Compile = Annotated[bool, switch("compile", "For GPUs: torch.compile; another run, as it rounds otherwise.")]
SideStream = Annotated[bool, switch("side-stream", "The teacher beside the student: more memory, same result.")]


def main() -> None:
    """Run the command line: exit code 1 and one line on stderr for a known problem, 130 for Ctrl-C."""
    try:
        for text in (*sys.argv[1:], str(Path.cwd())):  # both become names of runs, data sets and files
            if not is_utf8(text):
                raise ScfsError(f"{text!a}: not UTF-8: rename the file or folder")
        app()
    except ScfsError as error:
        log(f"scfs: {error}")
        sys.exit(1)
    except OSError as error:  # a full disk, a missing permission: nothing that a traceback would explain
        name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
        log(f"scfs: {name}{error.strerror or error or type(error).__name__}")
        sys.exit(1)
    except Exception:  # as without this clause, but in the log file too
        log(traceback.format_exc().rstrip())
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scfs {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    params: Annotated[Path, typer.Option(metavar="FILE", help="The study.")] = PARAMS,
    log_file: Annotated[Path | None, typer.Option("--log", metavar="FILE", help="Copy log lines to FILE.")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Take the options that stand before the command."""
    context.obj = params
    silence(find_world().local_rank > 0)  # of the processes on one machine, which say the same until they have met
    # DVC's libraries report their use to their maker unless told not to.
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    os.environ.setdefault("ITERATIVE_DO_NOT_TRACK", "1")
    if log_file is not None:
        copy_log(log_file)
        log(f"{datetime.now():%Y-%m-%d %H:%M:%S} scfs {shlex.join(sys.argv[1:])}")


def load(context: typer.Context) -> "Study":
    """Load the study and fix the threads while torch is not yet imported: OpenMP reads its setting only then."""
    from scfs.config.study import load_study
    from scfs.report import paper
    from scfs.weights import catalogue

    study = load_study(context.obj)
    paper.check(study, str(context.obj))
    catalogue.check(study)
    os.environ["OMP_NUM_THREADS"] = str(study.torch_threads)
    return study


def member(context: typer.Context, what: str, name: str, known: dict[str, Any]) -> Any:
    """Look up what a user named on the command line."""
    if name not in known:
        raise ScfsError(f"{context.obj}: {what} {name!r}: not among {sorted(known)}")
    return known[name]
