import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_results import STUDY, VALUES, WARNING, FakeResults
from PIL import Image

from scfs import paths
from scfs.config.report import FIGURES
from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.report import page
from scfs.report.provenance import duration


class Page(HTMLParser):
    """Text, table rows, sources and ids of a page; fails on tags that do not match."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.sources += [values[key] or "" for key in ("src", "href", "xlink:href") if key in values]
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data


def report(study: Study) -> tuple[str, Page]:
    page.write_report(study, paths.report(study.study))
    html = paths.report(study.study).read_text()
    return html, Page(html)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """The report of the study with all its results, drawn once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("finished"))
        fake = FakeResults(parse_study(STUDY))
        for run, values in VALUES.items():
            fake.write(run, values)
        return report(fake.study)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out, which take most of the time, where a test is not about them."""
    monkeypatch.setattr(page, "dataset_cards", lambda study: [])
    for kind in FIGURES.values():
        monkeypatch.setattr(kind, "draw", lambda *_: b'<svg viewBox="0 0 1 1"></svg>')


def test_the_table_stands_in_the_page(finished: tuple[str, Page]) -> None:
    _, seen = finished
    rows = [[cell.strip() for cell in row] for row in seen.rows]
    assert ["random weights", "1", "29.4", "22.3", "1.01", "–", "–"] in rows
    assert ["DINO", "1", "24.7", "23.9", "1.21", "81.1", "87.0"] in rows
    assert ["SCFS", "1", "26.0", "34.7", "1.68", "84.8", "89.2"] in rows
    assert ["", "n", "k-NN", "linear, cached features", "attention score", "k-NN", "linear probing"] in rows
    assert ["", "", "This study", "The paper: another scale"] in rows
    assert STUDY["scale"] in seen.text


@pytest.mark.usefixtures("undrawn")
def test_seeds_show_their_spread_and_the_best_stands_out(seeded: Study) -> None:
    html, seen = report(seeded)
    assert ["DINO", "2", "25.7 ± 1.4"] in [[cell.strip() for cell in row[:3]] for row in seen.rows]
    assert '<span class="best">27.0</span>' in html
    assert '<span class="best">25.7</span>' not in html


def test_one_seed_is_not_ranked(finished: tuple[str, Page]) -> None:
    html, seen = finished
    assert 'class="best"' not in html
    assert "rows are not ranked" in seen.text


def test_nothing_is_asked_of_the_network(finished: tuple[str, Page]) -> None:
    html, seen = finished
    assert not re.search(r"https?:|//[a-z]+\.|@import|<script|<link|<iframe", html)
    assert seen.sources
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in seen.sources)


def test_all_links_lead_somewhere_and_ids_are_unique(finished: tuple[str, Page]) -> None:
    html, seen = finished
    assert len(seen.ids) == len(set(seen.ids))
    used = {source[1:] for source in seen.sources if source.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", html))
    assert used <= set(seen.ids)


def test_all_figures_are_embedded(finished: tuple[str, Page]) -> None:
    html, seen = finished
    assert html.count("<svg ") == 2 + 1  # the data's classes
    assert "Teacher entropy / ln K" in seen.text
    assert "k-NN top-1 in % (k = 20)" in seen.text
    attention, contact_sheet = (source for source in seen.sources if source.startswith("data:"))
    for picture in (attention, contact_sheet):
        assert Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).width > 500


def test_figures_follow_the_theme(finished: tuple[str, Page]) -> None:
    html, _ = finished
    body = html.split("</style>")[1]
    assert not re.search(r"(?:fill|stroke): #(?!ffffff)", body)
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    light, dark = html.split("@media (prefers-color-scheme: dark)")
    assert all(f"{name}:" in light and f"{name}:" in dark for name in used)


def test_what_ran_on_what(finished: tuple[str, Page]) -> None:
    _, seen = finished
    rows = {row[0]: row[1:] for row in seen.rows if len(row) == 4}
    assert rows["method"] == ["scfs", "dino", "scfs"]
    assert rows["epochs"] == ["0", "4", "4"]
    assert rows["seed"] == ["0", "0", "0"]
    assert rows["identity"] == ["randomxxxxxxxxxx", "dinoxxxxxxxxxxxx", "scfsxxxxxxxxxxxx"]
    assert rows["time"] == ["6 min 00 s", "4 min 00 s", "4 min 00 s"]
    assert "batch" not in rows  # the same for all: listed once
    for fact in (
        "ffffffffffff",
        "aaaaaaaaaaaa",
        "d1d1d1d1d1d1",
        "buildhost",
        "bf16",
        "scenes/pretrain, 500 images",
        "torch threads",
    ):
        assert seen.text.count(fact) == 1, fact


def test_what_the_data_hold(finished: tuple[str, Page]) -> None:
    html, seen = finished
    names = ["", "images", "classes", "per class", "width", "height", "duplicates", "left out", "digest"]
    rows = [[cell.strip() for cell in row] for row in seen.rows]
    assert names in rows
    assert ["val", "5,250", "2", "250 – 5,000 images", "96", "96", "0", "0", "0123456789ab"] in rows
    assert '<section id="data">' in html and 'class="shared"' not in html


def test_time_by_stage(finished: tuple[str, Page]) -> None:
    _, seen = finished
    assert ["", "pretrain", "knn", "quick", "layers", "attention", "all", ""] in seen.rows
    assert ["random", "6 min 00 s", "8 s", "8 s", "8 s", "8 s", "6 min 30 s", ""] in seen.rows
    assert "15 min 30 s of computing" in " ".join(seen.text.split())


@pytest.mark.usefixtures("undrawn")
def test_a_stage_without_a_record_of_its_time_is_a_dash(study: Study) -> None:
    paths.result("dino", "knn").with_suffix(".run.json").unlink()
    _, seen = report(study)
    assert ["dino", "4 min 00 s", "–", "8 s", "8 s", "8 s", "4 min 22 s", ""] in seen.rows


def test_protocols_say_kind_parameters_images_and_spread(finished: tuple[str, Page]) -> None:
    text = " ".join(finished[1].text.split())
    assert (
        "quick (linear_cached): Fitted on features extracted once, without augmentation. Quick; NOT the paper's" in text
    )
    assert "k 10, 20, 30; report_k 20; temperature 0.07" in text
    assert "val: 2,000 images, digest e2e2e2e2e2e2" in text
    assert "Standard deviation of top1 over seeds of the probe: random 0.21, dino 0.35, scfs 0.18." in text
    assert "Standard deviation of score over images: random 0.30, dino 0.40, scfs 0.50." in text


def test_the_attention_score_is_explained(finished: tuple[str, Page]) -> None:
    text = " ".join(finished[1].text.split())
    assert "1.0 is no better than a uniform map, and below 1 the map avoids the object." in text


@pytest.mark.usefixtures("undrawn")
def test_prototypes_that_never_learnt_are_named(fake: FakeResults, study: Study) -> None:
    told = "the prototypes (last layer) stayed as they were drawn"
    assert told not in report(study)[1].text
    optimizer = {**STUDY["pretrain"]["optimizer"], "freeze_last_layer": 4}
    runs = {**STUDY["runs"], "dino": {"method": "dino", "epochs": 5}}
    fake.study = parse_study({**STUDY, "pretrain": {**STUDY["pretrain"], "optimizer": optimizer}, "runs": runs})
    for run in runs:
        fake.pretrain(run)
    assert f"In scfs {told}" in report(fake.study)[1].text  # dino's had an epoch, random weights were not trained


@pytest.mark.usefixtures("undrawn")
def test_warnings_are_shown_with_their_run(fake: FakeResults, study: Study) -> None:
    assert "no warnings" in report(study)[1].text
    fake.pretrain("dino", (WARNING,))
    text = " ".join(report(study)[1].text.split())
    assert f"dino: {WARNING}" in text
    assert "1 warning." in text


@pytest.mark.usefixtures("undrawn")
def test_text_from_a_study_cannot_become_markup(study: Study) -> None:
    tables = {"main": {**STUDY["tables"]["main"], "title": "<b>bold</b> & more"}}
    html, seen = report(parse_study({**STUDY, "tables": tables, "scale": "<i>"}))
    assert "<b>bold" not in html
    assert "<b>bold</b> & more" in seen.text


@pytest.mark.usefixtures("undrawn")
def test_a_missing_result_is_one_line_and_leaves_the_old_report(study: Study) -> None:
    report(study)
    before = paths.report(study.study).read_bytes()
    paths.result("random", "pretrain").unlink()
    with pytest.raises(
        ScfsError, match=r"results/runs/random/pretrain\.json: missing: the stage pretrain of run random"
    ):
        page.write_report(study, paths.report(study.study))
    assert paths.report(study.study).read_bytes() == before


def test_a_study_with_one_run_and_one_evaluation(fake: FakeResults) -> None:
    table = {"main": {"title": "t", "columns": [{"label": "k-NN", "evaluation": "knn", "value": "top1"}]}}
    table["main"]["rows"] = [{"label": "SCFS", "runs": ["scfs"]}]
    one = {"runs": {"scfs": {}}, "evaluate": {"knn": STUDY["evaluate"]["knn"]}, "tables": table}
    study = parse_study({**STUDY, **one, "figures": {"curves": {"kind": "curves"}}})
    fake.study = study
    fake.write("scfs", {"knn": {"top1": 26.0}})
    html, seen = report(study)
    assert html.count("<svg ") == 1 + 1  # curves; the data's classes
    assert "Attention score" not in seen.text


def test_summary_is_the_tables_and_the_path(study: Study) -> None:
    summary = page.print_summary(study)
    assert summary.startswith("DINO and SCFS\n")
    assert "84.8" in summary
    assert summary.endswith("Report: results/studies/fake/report.html")


@pytest.mark.usefixtures("undrawn")
def test_how_to_reproduce_names_the_study(study: Study) -> None:
    assert "snakemake --cores 2 --configfile config/fake/params.yaml" in report(study)[1].text
    assert "make demo" in report(parse_study({**STUDY, "study": "demo"}))[1].text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7.4, "7 s"), (59.6, "1 min 00 s"), (3599.4, "59 min 59 s"), (18120, "5 h 02 min")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_the_report_needs_no_torch() -> None:
    code = "import sys, scfs.report.page, scfs.report.tables, scfs.report.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
