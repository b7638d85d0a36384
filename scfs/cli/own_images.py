"""Commands on a folder of one's own images, with weights of any origin: no study needed."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from scfs.cli.app import Device, Workers, app
from scfs.errors import ScfsError
from scfs.runtime.cpu import usable_cores, worker_count
from scfs.runtime.world import find_world

Source = Annotated[str, typer.Argument(metavar="WEIGHTS", help="A file of ours or others', or public weights.")]
Images = Annotated[Path, typer.Argument(metavar="FOLDER", help="Images, with or without class folders.")]
Backbone = Annotated[str | None, typer.Option(help="Architecture of others' weights.")]
Encoder = Annotated[str, typer.Option(help="teacher or student, of weights of ours.")]
Size = Annotated[int | None, typer.Option(min=1, help="Side of the images in pixels.  [default: the training's]")]
Threads = Annotated[int | None, typer.Option(min=1, help="torch's threads.  [default: all cores]")]
Train = Annotated[Path | None, typer.Option(help="WEIGHTS: labelled images, one sub-folder per class.")]
Test = Annotated[Path | None, typer.Option(help="WEIGHTS: images to classify.  [default: a tenth of --train]")]
Out = Annotated[Path | None, typer.Option(help="WEIGHTS: what to write.  [default: evaluation of the file's name]")]


def evaluate_labels(weights: str, given: dict[str, Any]) -> None:
    """Evaluate weights on labelled folders, see `scfs.evaluation.own_labels.evaluate`, and print the numbers."""
    if given["train"] is None:
        raise ScfsError(f"evaluate {weights}: give --train DIR (labelled images), or --run RUN of the study")
    threads = use_threads(given["threads"])
    options = {**given, "threads": threads, "workers": worker_count(given["workers"], threads)}
    options["out"] = given["out"] or Path(f"{Path(weights).with_suffix('')}-evaluation")
    from scfs.evaluation import own_labels
    from scfs.io.text_table import aligned

    record = own_labels.evaluate(weights, **options)
    rows = [[row["name"], f"{row['knn']:.1f}", f"{row['linear']:.1f}"] for row in record["rows"]]
    rows.append(["most frequent class", *2 * [f"{record['majority']:.1f}"]])
    typer.echo("\n".join(aligned([["", "k-NN, %", "linear, %"], *rows])))


def use_threads(threads: int | None) -> int:
    """Let torch, which is imported later, compute with so many threads, by default with all of this process's cores."""
    threads = threads or max(1, usable_cores() // find_world().core_sharers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    return threads


def _shared(context: typer.Context) -> dict[str, Any]:
    """Return the options of a command that say what the encoder is and how it runs, as functions take them."""
    given = context.params
    workers = worker_count(given["workers"], use_threads(given["threads"]))
    return {**{name: given[name] for name in ("size", "encoder", "backbone", "device")}, "workers": workers}


@app.command()
def embed(
    context: typer.Context,
    weights: Source,
    folder: Images,
    out: Annotated[Path, typer.Option(help="File to write: .parquet, or .npy.")],
    layer: Annotated[
        list[str] | None, typer.Option(help="A layer's pooled map; repeatable.  [default: feature]")
    ] = None,
    share: Annotated[str, typer.Option(metavar="I/N", help="One of N shares of the images.")] = "1/1",
    size: Size = None,
    encoder: Encoder = "teacher",
    backbone: Backbone = None,
    threads: Threads = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Write the features of all images of a FOLDER. Called again, it goes on where it was stopped."""
    parts = re.fullmatch(r"(\d{1,9})/(\d{1,9})", share)
    if parts is None:
        raise ScfsError(f"--share {share}: allowed are 1/N to N/N")
    shared = _shared(context)
    from scfs.evaluation import embedding

    of = int(parts[1]), int(parts[2])
    embedding.embed(weights, folder, out, layers=layer or (embedding.FEATURE,), share=of, **shared)


@app.command()
def neighbours(
    context: typer.Context,
    weights: Source,
    folder: Images,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("neighbours.html"),
    query: Annotated[list[Path] | None, typer.Option(help="An image to look up; repeatable.  [default: some]")] = None,
    size: Size = None,
    encoder: Encoder = "teacher",
    backbone: Backbone = None,
    threads: Threads = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Write a page of images with those that are most similar.

    By the features of WEIGHTS, of the images of a FOLDER.
    """
    shared = _shared(context)
    from scfs.evaluation import neighbour_page

    neighbour_page.write_neighbours(weights, folder, out, queries=query or (), **shared)


@app.command()
def search(
    context: typer.Context,
    weights: Source,
    folder: Images,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("search.html"),
    layer: Annotated[str, typer.Option(help="Layer whose maps are searched.")] = "layer3",
    size: Size = None,
    encoder: Encoder = "teacher",
    backbone: Backbone = None,
    threads: Threads = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Write a page that searches a part of an image in all.

    A rectangle on one image of a FOLDER is searched in all of them (Eq. 6).
    """
    shared = _shared(context)
    from scfs.evaluation import search_page

    search_page.write_search(weights, folder, out, layer=layer, **shared)


def next_steps(weights: Path, folder: Path, backbone: str) -> list[str]:
    """Give the commands and the Python that one may want after a training on a folder."""
    from scfs.config.weight_formats import export_formats

    library = next((name for name in ("torchvision", "timm") if name in export_formats(backbone)), "safetensors")
    return [
        f"scfs evaluate {weights} --train LABELLED_FOLDER",
        f"scfs search {weights} {folder}",
        f"scfs embed {weights} {folder} --out features.parquet",
        f"scfs export {weights} --format {library} --out FILE",
        f'in Python: import scfs; model = scfs.load("{weights}"); model(model.transform("photo.jpg")[None])',
    ]
