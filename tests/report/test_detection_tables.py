import json
import re
from pathlib import Path

import pytest
from fake_results import DETECTION, DETECTION_VALUES, FakeResults

from scfs import paths
from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.report import page, paper, provenance
from scfs.report.publish import publish
from scfs.report.results import read_stage_metadata
from scfs.report.tables import build_table, notes, render_markdown, render_text

SMALL = (
    "AP, AP50: small-machine settings, with fewer iterations (1,200), smaller images (96 pixels) and fewer proposals "
    "than the recipe voc_faster_rcnn_c4: not its numbers."
)
TRIALS = "AP, AP50: mean of 3 trials of each run; their standard deviation is in the results of voc."


def as_written(study: Study) -> str:
    page.write_report(study, paths.report(study.study))
    return " ".join(re.sub(r"<[^>]*>", " ", paths.report(study.study).read_text()).split())


def test_every_number_of_the_papers_tables_has_a_heading_for_a_reader() -> None:
    known = {"method", "batch", "epochs", "mode", "layers", "backbone"}
    columns = {
        f"table{number}": set(paper.read("paper_tables.yaml")[f"table{number}"]["columns"]) - known
        for number in range(1, 7)
    }
    assert all(column in paper.read("paper_columns.yaml") for named in columns.values() for column in named)
    labels = [paper.column_label(column) for column in paper.read("paper_tables.yaml")["table4"]["columns"][2:]]
    assert labels[:6] == ["1x box AP", "1x box AP50", "1x box AP75", "1x mask AP", "1x mask AP50", "1x mask AP75"]
    assert labels[6:] == [label.replace("1x", "2x") for label in labels[:6]]
    assert [paper.column_label(column) for column in ("top1_1pct", "top5_10pct", "ap", "ap75", "apb", "aps50")] == [
        *("top-1, 1 %", "top-5, 10 %", "AP", "AP75", "box AP", "mask AP50")
    ]
    assert paper.column_label("aircraft") == "Aircraft (mean per class)"
    assert paper.column_label("0.05-0.14") == "0.05-0.14"


def test_average_precision_has_one_decimal_and_scratch_the_studys_label(detection: Study) -> None:
    lines = [line.split() for line in render_text(detection, "voc").splitlines()]
    assert ["Scratch", "1", "57.4", "83.0", "0.2", "|", "33.8", "60.2"] in lines
    assert ["SCFS", "1", "57.4", "83.0", "0.2", "|", "57.4", "83.0"] in lines
    text = render_text(detection, "coco")
    assert ["SCFS", "1", "40.5", "58.8", "|", "40.5", "58.8"] in [line.split() for line in text.splitlines()]
    assert "1x box AP" in text and "1x mask AP50" in text


def test_trials_and_small_machines_are_noted_in_text_markdown_and_page(detection: Study) -> None:
    table = build_table(detection, "voc")
    assert table["column_notes"] == [TRIALS, SMALL]
    assert [note for note in notes(table) if note in (TRIALS, SMALL)] == [TRIALS, SMALL]
    for text in (render_text(detection, "voc"), render_markdown(table), as_written(detection)):
        assert TRIALS in " ".join(text.split()) and SMALL in " ".join(text.split())


def test_the_recipe_itself_and_fine_tuning_have_no_note(detection: Study) -> None:
    assert build_table(detection, "coco")["column_notes"] == build_table(detection, "tune")["column_notes"] == []
    assert "small-machine" not in render_text(detection, "coco")


def test_seeds_and_trials_have_a_spread_each(fake: FakeResults, detection: Study) -> None:
    rows = [{"label": "SCFS", "runs": ["scfs", "scfs-1"]}]
    tables = {"voc": {**DETECTION["tables"]["voc"], "rows": rows}}
    study = fake.study = parse_study({**DETECTION, "tables": tables})
    fake.evaluation("scfs-1", "voc", {**DETECTION_VALUES["voc"], "ap": 55.44})
    cell = build_table(study, "voc")["rows"][0]["cells"][0]
    assert (cell["mean"], cell["sd"]) == (pytest.approx(56.44), pytest.approx(2**0.5))
    text = as_written(study)
    assert "56.4 ± 1.4" in text
    assert "Standard deviation of ap over trials: scfs 0.22, scfs-1 0.22." in text


def test_the_report_shows_what_evaluations_trained_with(detection: Study) -> None:
    facts = provenance.trainings_of(detection)
    runs = ["random", "dino", "scfs", "scfs-1"]
    assert facts["tune: chosen learning rate"] == ["–", "–", "0.0032", "–"]
    assert facts["tune: chosen weight decay"] == ["–", "–", "1e-05", "–"]
    assert facts["coco: iterations"] == ["90000"] * len(runs)
    assert facts["coco: images per batch"] == ["16"] * len(runs)
    assert facts["voc: learning rate"] == ["0.02", "0.02", "0.02", "–"]
    text = as_written(detection)
    assert "tune: chosen learning rate – – 0.0032 –" in text
    assert "Training in evaluations: the same for all runs coco: iterations 90000" in text
    assert "small_machine.iterations 1200; small_machine.short_side 96" in text
    assert "AP, AP50, AP75" in text and "Mean per class" in text


@pytest.mark.parametrize(
    ("evaluation", "record", "told"),
    [
        ("coco", None, r"coco\.json: resolved = None: run the stage detection of this run again"),
        ("coco", {"lr": 0.02}, r"coco\.json: resolved = {'lr': 0\.02}: run the stage detection of this run again"),
        ("tune", None, r"tune\.json: chosen = None: run the stage finetune of this run again"),
    ],
)
def test_a_result_that_does_not_say_how_it_trained_is_refused(
    detection: Study, evaluation: str, record: dict[str, float] | None, told: str
) -> None:
    path = paths.result("scfs", evaluation)
    key = "resolved" if evaluation == "coco" else "chosen"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: record}))
    with pytest.raises(ScfsError, match=told):
        page.write_report(detection, paths.report(detection.study))


def test_another_small_machine_is_another_protocol(detection: Study) -> None:
    values = {**DETECTION["evaluate"]["voc"], "small_machine": {"iterations": 600, "short_side": 96}}
    other = parse_study({**DETECTION, "evaluate": {**DETECTION["evaluate"], "voc": values}})
    with pytest.raises(
        ScfsError, match=r"random/voc\.json: made with small_machine.iterations = 1200, .*: run the stage detection"
    ):
        render_text(other, "voc")


def test_an_evaluation_took_as_long_as_its_parts_too(fake: FakeResults, detection: Study) -> None:
    assert dict(provenance.times(detection)[2]["stages"])["voc"] == 7.5
    for trial, seconds in (("trial-0", 100.0), ("trial-2", 20.5)):  # one that was not kept
        fake.part("scfs", "voc", trial, seconds)
    row = provenance.times(detection)[2]
    assert row["run"] == "scfs" and dict(row["stages"])["voc"] == 128.0
    assert row["total"] == sum(seconds for _, seconds in row["stages"])
    assert list(read_stage_metadata(detection, "scfs", "voc")) == ["voc", "voc/trial-0", "voc/trial-2"]
    assert list(read_stage_metadata(detection, "scfs", "pretrain")) == ["pretrain"]


def test_a_published_table_has_the_parts_and_what_was_trained_with(fake: FakeResults, detection: Study) -> None:
    fake.part("scfs", "voc", "trial-0", 100.0)
    publish(detection, ["voc", "tune", "found", "curves"], Path("out"))
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("curves.svg", "found.png", "tune.json", "tune.md", "voc.json", "voc.md")
    ]
    voc, tune = (json.loads(Path("out", f"{name}.json").read_text()) for name in ("voc", "tune"))
    assert voc["occasions"]["scfs"]["voc/trial-0"]["seconds"] == 100.0
    assert voc["identities"]["scfs"]["evaluations"]["voc"]["training"]["iterations"] == 90000
    assert voc["identities"]["scfs"]["evaluations"]["voc"]["seeds"] == [0, 1, 2]
    assert tune["identities"]["scfs"]["evaluations"]["tune"]["training"] == {"lr": 0.0032, "weight_decay": 1e-5}
    assert tune["identities"]["scfs"]["evaluations"]["tune"]["seeds"] == [0]
    assert SMALL in Path("out/voc.md").read_text()


def test_parts_of_uncommitted_code_are_refused(fake: FakeResults, detection: Study) -> None:
    fake.part("scfs", "voc", "trial-1", 100.0)
    record = paths.result("scfs", "voc/trial-1").with_suffix(".run.json")
    record.write_text(record.read_text().replace('"git": "', '"git": "f-dirty", "was": "'))
    with pytest.raises(ScfsError, match=r"scfs/voc/trial-1\.run\.json: git = 'f-dirty'"):
        publish(detection, ["voc"], Path("out"))
    assert not Path("out").exists()


def test_both_figures_stand_in_the_page(detection: Study) -> None:
    text = as_written(detection)
    html = paths.report(detection.study).read_text()
    assert 'id="figure-found"' in html and 'id="figure-curves"' in html
    assert html.count("data:image/png;base64,") == 1 + 1  # and the contact sheet
    assert not re.search(r"(?:fill|stroke): #(?!ffffff)", html.split("</style>")[1])
    assert detection.figures["found"].heading in text and detection.figures["curves"].caption in text
