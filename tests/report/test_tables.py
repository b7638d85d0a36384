import json
from pathlib import Path
from typing import Literal

import pytest
from fake_results import STUDY, FakeResults

from scfs import paths
from scfs.config.evaluation import Knn
from scfs.config.identity import pretrain_identity
from scfs.config.protocol import Value
from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.report.tables import render_text, write_table


def written(study: Study, name: str = "main") -> dict:
    write_table(study, name, Path("out/table.json"))
    return json.loads(Path("out/table.json").read_text())


def test_json_has_values_and_the_papers_numbers_apart(study: Study) -> None:
    table = written(study)
    assert [row["label"] for row in table["rows"]] == ["random weights", "DINO", "SCFS"]
    knn, quick, score = table["rows"][2]["cells"]
    assert (knn["mean"], knn["sd"], knn["n"], knn["values"], knn["paper"]) == (26.03, None, 1, {"scfs": 26.03}, 84.8)
    assert (quick["mean"], quick["paper"]) == (34.68, 89.2)
    assert (score["mean"], score["paper"]) == (1.678, None)
    assert [row["paper"] for row in table["rows"]] == [[None, None], [81.1, 87.0], [84.8, 89.2]]
    assert [column["kind"] for column in table["columns"]] == ["knn", "linear_cached", "attention"]
    assert table["scale"] == STUDY["scale"]


def test_json_says_what_was_measured_on_what(study: Study) -> None:
    identity = written(study)["identities"]["dino"]
    assert (identity["config"], identity["seed"]) == (pretrain_identity(study, "dino"), 0)
    quick = identity["evaluations"]["quick"]
    assert (quick["kind"], quick["stage_version"], quick["seeds"]) == ("linear_cached", 1, [0, 1, 2])
    assert quick["weights"]["identity"] == "dinoxxxxxxxxxxxx"
    assert quick["dataset"]["splits"]["val"]["digest"] == "e2" * 32


def test_same_results_same_bytes(study: Study) -> None:
    write_table(study, "main", Path("a.json"))
    write_table(study, "main", Path("b.json"))
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()
    assert Path("a.md").read_bytes() == Path("b.md").read_bytes()


def test_markdown_is_a_table_with_a_row_per_line(study: Study) -> None:
    written(study)
    lines = Path("out/table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0][2:] == [
        "k-NN",
        "linear, cached features",
        "attention score",
        "paper (another scale): k-NN",
        "paper (another scale): linear probing",
    ]
    assert rows[2] == ["random weights", "1", "29.4", "22.3", "1.01", "–", "–"]
    assert rows[4] == ["SCFS", "1", "26.0", "34.7", "1.68", "84.8", "89.2"]
    assert "**26.0**" not in "".join(lines)


def test_text_is_aligned_and_separates_the_paper(study: Study) -> None:
    title, *lines = render_text(study, "main").splitlines()
    assert title == "DINO and SCFS"
    assert len({line.index("|") for line in lines[:5]}) == 1
    assert "paper (another scale)" in lines[0].split("|")[1]
    assert lines[4].split("|")[0].split() == ["SCFS", "1", "26.0", "34.7", "1.68"]
    assert lines[4].split("|")[1].split() == ["84.8", "89.2"]
    rest = " ".join(" ".join(lines[5:]).split())
    assert "Table 7, rows DINO, SCFS" in rest
    assert "not to be compared" in rest
    assert STUDY["scale"] in rest


def test_a_mean_outside_its_expected_range_is_marked(fake: FakeResults, study: Study) -> None:
    main = STUDY["tables"]["main"]
    first = main["columns"][0]["label"]
    rows = [row | {"expected": {first: [29, 30]}} if row.get("runs") else row for row in main["rows"]]
    expecting = parse_study(STUDY | {"tables": {"main": main | {"rows": rows}}}, "fake.yaml")
    marked = [line for line in render_text(expecting, "main").splitlines() if line.startswith("!")]
    assert marked[-1] == f"! SCFS, {first}: 26.0, expected are 29 to 30"
    assert not any("random weights" in line for line in marked)  # 29.4
    assert written(expecting) == written(study)
    rows[0] = rows[0] | {"expected": {"accuracy": [0, 1]}}
    with pytest.raises(ScfsError, match="expected: 'accuracy': not among the columns"):
        parse_study(STUDY | {"tables": {"main": main | {"rows": rows}}}, "fake.yaml")


def test_one_seed_is_never_ranked(study: Study) -> None:
    assert not any(cell["best"] for row in written(study)["rows"] for cell in row["cells"])
    text = render_text(study, "main")
    assert "not ranked" in text
    assert "*" not in text
    assert "±" not in text


def test_several_seeds_have_mean_sd_and_a_best(seeded: Study) -> None:
    dino, scfs = written(seeded)["rows"]
    cell = scfs["cells"][0]
    assert cell["mean"] == pytest.approx(27.03)
    assert cell["sd"] == pytest.approx(2**0.5)  # 26.03 and 28.03, divided by n - 1
    assert (cell["n"], cell["values"]) == (2, {"scfs-0": 26.03, "scfs-1": 28.03})
    assert (cell["best"], dino["cells"][0]["best"]) == (True, False)
    text = render_text(seeded, "main")
    assert "27.0 ± 1.4*" in text
    assert "25.7 ± 1.4 " in text
    assert "**27.0 ± 1.4**" in Path("out/table.md").read_text()


@pytest.mark.parametrize(("better", "best"), [("more", [False, True]), ("less", [True, False]), (None, [False, False])])
def test_best_follows_the_direction_of_the_value(
    better: Literal["more", "less"] | None, best: list[bool], seeded: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {"top1": Value(digits=3, better=better)}
    monkeypatch.setattr(Knn, "values", lambda self: {**dict.fromkeys(("top5", "top1_k20"), Value()), **declared})
    rows = written(seeded)["rows"]
    assert [row["cells"][0]["best"] for row in rows] == best
    assert "27.030 ± 1.414" in Path("out/table.md").read_text()


def test_one_row_of_one_seed_keeps_the_others_from_being_ranked(fake: FakeResults, seeded: Study) -> None:
    tables = {
        "main": {
            **STUDY["tables"]["main"],
            "rows": [{"label": "DINO", "runs": ["dino-0"]}, {"label": "SCFS", "runs": ["scfs-0", "scfs-1"]}],
        }
    }
    table = written(parse_study({**STUDY, "runs": seeded.runs, "tables": tables}))
    assert not any(cell["best"] for row in table["rows"] for cell in row["cells"])


def test_at_the_papers_own_scale_there_is_no_warning(study: Study) -> None:
    text = render_text(parse_study({**STUDY, "scale": ""}), "main")
    assert "scale" not in text
    assert "84.8" in text


def test_a_missing_result_names_the_file_and_its_stage(study: Study) -> None:
    paths.result("scfs", "quick").unlink()
    with pytest.raises(
        ScfsError, match=r"results/runs/scfs/quick\.json: missing: the stage linear_cached of run scfs writes it"
    ):
        write_table(study, "main", Path("table.json"))
    assert not Path("table.json").exists()
    assert not Path("table.md").exists()


def test_a_damaged_result_is_named(study: Study) -> None:
    paths.result("dino", "knn").write_text('{"values": ')
    with pytest.raises(ScfsError, match=r"dino/knn\.json: not a readable JSON file"):
        render_text(study, "main")


def test_a_value_that_was_not_measured_is_named(fake: FakeResults, study: Study) -> None:
    fake.evaluation("scfs", "attention", {"images": 0})
    with pytest.raises(ScfsError, match=r"scfs/attention\.json: value 'score': not among \['images'\]"):
        render_text(study, "main")


def test_a_number_of_another_protocol_is_refused(study: Study) -> None:
    changed = parse_study(
        {**STUDY, "evaluate": {**STUDY["evaluate"], "knn": {"kind": "knn", "dataset": "scenes", "report_k": 10}}}
    )
    with pytest.raises(ScfsError, match=r"random/knn\.json: made with report_k = 20, .*evaluate\.knn has 10"):
        render_text(changed, "main")


def test_a_number_of_other_weights_is_refused(study: Study) -> None:
    path = paths.result("dino", "quick")
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "weights": {**result["weights"], "sha256": "0" * 64}}))
    with pytest.raises(
        ScfsError, match=r"dino/quick\.json: measured on weights .*: run the stage linear_cached of this"
    ):
        render_text(study, "main")
    paths.weights("dino").parent.mkdir(exist_ok=True)
    paths.weights("dino").write_bytes(b"damaged")
    with pytest.raises(
        ScfsError, match=r"dino\.safetensors is damaged or another file: make the weights again \(the sta"
    ):
        render_text(study, "main")


def test_a_training_with_other_settings_is_refused(study: Study) -> None:
    changed = parse_study({**STUDY, "runs": {**STUDY["runs"], "scfs": {"optimizer": {"lr": 0.7}}}})
    message = (
        r"scfs/pretrain\.json: made with optimizer\.lr = 0\.1, but the study's run scfs has 0\.7: "
        "run the stage pretrain of this run again"
    )
    for read in (lambda: render_text(changed, "main"), lambda: changed.figures["curves"].draw(changed)):
        with pytest.raises(ScfsError, match=message):
            read()


def test_another_study_may_share_the_runs(study: Study) -> None:
    other = parse_study({**STUDY, "study": "other", "runs": {**STUDY["runs"], "further": {"seed": 9}}})
    assert render_text(other, "main").splitlines()[2:5] == render_text(study, "main").splitlines()[2:5]


def test_an_unknown_table_is_named(study: Study) -> None:
    with pytest.raises(ScfsError, match=r"table 'mian': not among \['main'\]"):
        write_table(study, "mian", Path("table.json"))
