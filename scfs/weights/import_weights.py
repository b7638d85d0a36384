"""The stage `import_weights`: our own file of weights from a third-party one, so that every evaluation runs on it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scfs.config.identity import STAGE_VERSIONS, identity
from scfs.config.pretrain import Imported
from scfs.config.weight_formats import FORMATS, WeightFormat
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.io.results import sha256_of, write_result
from scfs.weights.catalogue import PublicWeights, entry_named, fetch
from scfs.weights.state_dict_matching import Tensors, backbone_shapes, match_backbone, match_classifier, match_encoder
from scfs.weights.store import Weights, facts_of, own_tensors, save_weights
from scfs.weights.third_party import find_network, read_third_party

UNKNOWN = "unknown"


def import_run(run: str, imported: Imported, weights: Path, result: Path, downloads: Path | None = None) -> None:
    """Make a run of a study from third-party weights.

    Args:
        run: name of the run.
        imported: the weights, as the study names them.
        weights: the safetensors file to write.
        result: the JSON file to write: a pre-training's record without a training, and `source`.
        downloads: folder of fetched files; default: weights/downloads.

    Raises:
        ScfsError: see `scfs.weights.catalogue.fetch` and `tensors_of`; nothing is written.
    """
    entry = None if imported.is_file else entry_named(imported.weights)
    path = fetch(entry, downloads) if entry else Path(imported.weights)
    about = import_weights(path, entry.format if entry else str(imported.format), weights, run, imported, entry)
    record: dict[str, Any] = {
        "run": run,
        "values": {},
        "curve": {},
        "warnings": [],
        "settings": about.settings,
        "dataset": None,
        "identity": about.identity,
        "weights": {"sha256": sha256_of(weights)},
        "stage_version": STAGE_VERSIONS["pretrain"],
        "source": {
            "entry": imported.weights if entry else None,
            "file": path.name,
            "sha256": sha256_of(path),
            "url": entry.url if entry else None,
            "licence": entry.licence if entry else None,
            "citation": entry.citation if entry else None,
            **trained_by_scfs(path),
        },
    }
    write_result(result, record)


def import_weights(
    path: Path, format: str, out: Path, run: str, imported: Imported, entry: PublicWeights | None = None
) -> Weights:
    """Write the tensors of `path` to `out` in our own format: all its encoders, or the one network as the teacher.

    Raises:
        ScfsError: see `tensors_of`; or the catalogue's entry promises other encoders. Nothing is written.
    """
    tensors = tensors_of(path, format, imported.backbone, imported.prefix, imported.ignore)
    encoders = sorted({name.split(".")[0] for name in tensors})
    if entry and encoders != sorted(entry.encoders):
        raise ScfsError(f"{path}: holds {encoders}, the catalogue says {sorted(entry.encoders)}")
    # An imported run stands where a pre-training does, so it shares that stage's version. Where the file lay is not
    # part of what it is.
    chosen = {key: value for key in ("prefix", "ignore") if (value := getattr(imported, key))}
    parameters = {"imported": {"backbone": imported.backbone, "format": format, **chosen}}
    whole_identity = identity("pretrain", parameters, {"file": sha256_of(path)})
    about = Weights(run, whole_identity, imported.model_dump(mode="json"), UNKNOWN, UNKNOWN)
    if own := facts_of(path):
        about = replace(about, dataset_digest=own.dataset_digest, precision=own.precision, classes=own.classes)
    save_weights(out, tensors, about)
    log(f"{run}: {imported.backbone} from {path}: {', '.join(encoders)}; {len(tensors)} tensors in {out}")
    return about


def trained_by_scfs(path: Path) -> dict[str, str]:
    """Return the name and the identity of the run that a file of ours comes from; {} for others' weights."""
    about = facts_of(path)
    return {"run": about.run, "identity": about.identity} if about and about.dataset_digest != UNKNOWN else {}


def tensors_of(path: Path, format: str, backbone: str, prefix: str = "", ignore: Sequence[str] = ()) -> Tensors:
    """Read a file, and return its tensors under our names: `teacher.*`, `student.*`.

    A file that scfs wrote says so itself, and its format does not matter. A checkpoint of the format has several
    encoders; else one network is looked for, see `find_network`.

    Raises:
        ScfsError: the file cannot be read, has several networks, or a tensor too many, too few or of another shape.
    """
    if facts_of(path):
        return own_tensors(path, backbone)[0]
    known, content = FORMATS[format], read_third_party(path)
    names = known.name_map(backbone)
    if names is None:
        raise ScfsError(f"{path}: backbone = {backbone!r}: no such architecture in the format {format}")
    if not (prefix or ignore) and any(encoder in content for encoder in known.encoders):
        _check_top(content, known, path)
        return {
            f"{encoder}.{name}": tensor
            for encoder in known.encoders
            if encoder in content
            for name, tensor in match_encoder(content[encoder], known, backbone, names, f"{path}: {encoder}").items()
        }
    if not known.flat:
        raise ScfsError(f"{path}: has no key 'teacher': not a checkpoint of the format {format}")
    wanted = [names(name) for name in backbone_shapes(backbone)]
    content = find_network(content, wanted, prefix, ignore, path)
    classifier = match_classifier(content, names.classifier, backbone, str(path)) if known.classifier else {}
    try:
        tensors = match_backbone(content, backbone, names, str(path))
    except ScfsError as error:
        if content.keys() > set(wanted):  # there is nothing else to complain of
            raise ScfsError(f"{error}: --ignore BEGINNING (or `ignore` of the run) leaves such tensors out") from None
        raise
    return {f"teacher.backbone.{name}": tensor for name, tensor in tensors.items()} | {
        f"teacher.{name}": tensor for name, tensor in classifier.items()
    }


def _check_top(content: dict[str, Any], format: WeightFormat, path: Path) -> None:
    """Raise ScfsError unless a checkpoint has the keys of its format, and no other."""
    missing = [key for key in format.required if key not in content]
    if missing:
        raise ScfsError(f"{path}: has no key {missing[0]!r}, only {sorted(content)}")
    allowed = {*format.encoders, *format.beside}
    unknown = sorted(content.keys() - allowed)
    if unknown:
        raise ScfsError(f"{path}: unknown key {unknown[0]!r}: allowed are {sorted(allowed)}")
    for encoder in format.encoders:
        if not isinstance(content.get(encoder, {}), dict):
            raise ScfsError(f"{path}: {encoder!r} is a {type(content[encoder]).__name__}, not a mapping to tensors")
