"""Commands about files of weights: third-party ones in, and ours out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from scfs import paths
from scfs.cli.app import Run, app, load, member
from scfs.errors import ScfsError


@app.command()
def formats() -> None:
    """List the formats of weight files.

    Whether each is read (import) and written (export), and the backbones.
    """
    from scfs.config.weight_formats import FORMATS
    from scfs.io.text_table import listing

    rows = [("format", "import", "export", "backbones")]
    for name in FORMATS:
        known = FORMATS[name]
        backbones = [] if known.names is None else [ours for names in known.names for ours in names.architectures]
        reads, writes = ("yes" if used else "" for used in (known.imports, known.exports))
        rows.append((name, reads, writes, ", ".join(backbones) or "all"))
    typer.echo(listing(rows))


@app.command("import-weights")
def import_weights(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A third-party file of weights: no study needed.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Or a run of the study.")] = None,
    format: Annotated[str | None, typer.Option(help="FILE: its format; `scfs formats` lists them.")] = None,
    backbone: Annotated[str | None, typer.Option(help="FILE: resnet18, resnet50, ...")] = None,
    out: Annotated[Path | None, typer.Option(help="FILE: the .safetensors file to write.")] = None,
    prefix: Annotated[str, typer.Option(help="FILE: where the network is, such as state_dict.module.encoder_q")] = "",
    ignore: Annotated[list[str], typer.Option(help="FILE: beginning of names to leave out, such as fc.")] = [],  # noqa: B006
) -> None:
    """Make others' weights ours, to evaluate them."""
    from scfs.config.base import parse
    from scfs.config.pretrain import Imported
    from scfs.weights import import_weights

    if (run is None) == (file is None):
        raise ScfsError("import-weights: give either a FILE or --run RUN")
    if run is not None:
        study = load(context)
        member(context, "run", run, study.runs)
        settings = study.imported(run)
        if settings is None:
            raise ScfsError(f"{context.obj}: runs.{run}: has no weights of others: it is trained by scfs pretrain")
        import_weights.import_run(run, settings, paths.weights(run), paths.result(run, "pretrain"))
    elif file is not None:
        from scfs.weights.store import facts_of

        if own := facts_of(file):
            format, backbone = "safetensors", backbone or own.settings.get("backbone")
        if format is None or backbone is None or out is None:
            raise ScfsError("import-weights FILE: give --format, --backbone and --out")
        name = f"./{file}" if file.parent == Path() else str(file)
        values = {"weights": name, "format": format, "backbone": backbone, "prefix": prefix, "ignore": ignore}
        imported = parse(Imported, values, "import-weights")
        import_weights.import_weights(file, format, out, file.stem, imported)


@app.command()
def convert(
    context: typer.Context,
    run: Run,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="Format of the file; `scfs formats` lists them.")],
) -> None:
    """Write a run's backbone in another library's format.

    The teacher's, as weights/RUN/FORMAT.safetensors or the like.
    """
    member(context, "run", run, load(context).runs)
    from scfs.config.weight_formats import converted_path
    from scfs.weights.export import export as write

    write(paths.weights(run), to, "teacher", converted_path(run, to))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Weights written by scfs.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format: Annotated[str, typer.Option(help="Names and kind of file; `scfs formats` lists them.")],
    encoder: Annotated[Literal["teacher", "student"], typer.Option(help="Which of the two encoders.")] = "teacher",
) -> None:
    """Write the backbone of a file of weights for use elsewhere.

    safetensors and pth are in our own names, detectron2 is for MODEL.WEIGHTS.
    """
    from scfs.weights.export import export as write

    write(file, format, encoder, out)
