"""A published table carries everything that its numbers came from, and is not made of anything else."""

import json
from pathlib import Path

import pytest
from fake_results import FakeResults

from scfs import paths
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.figures import write_figure
from scfs.report.publish import publish

OUT = Path("published")


def test_every_number_has_its_settings_seed_code_data_and_protocol(study: Study) -> None:
    written = publish(study, ["main"], OUT)
    assert written == [OUT / "main.md", OUT / "main.json"]
    table = json.loads((OUT / "main.json").read_text())
    assert table["settings"]["scfs"]["optimizer"]["lr"] == 0.1
    assert table["protocols"]["knn"]["temperature"] == 0.07
    assert table["identities"]["scfs"]["seed"] == 0
    assert table["identities"]["scfs"]["evaluations"]["knn"]["dataset"]["splits"]["val"]["digest"] == "e2" * 32
    assert table["occasions"]["scfs"]["pretrain"]["git"] == "f" * 40
    assert "host" not in table["occasions"]["scfs"]["pretrain"]
    text = (OUT / "main.md").read_text()
    for fact in ("26.0", "f" * 40, "a" * 64, "e2" * 32, "seeds: 0", "another scale"):
        assert fact in text


def test_figures_show_the_present_results(study: Study) -> None:
    drawn, result = paths.figure("fake", "layers", "svg"), paths.result("scfs", "layers")
    write_figure(study, "layers", drawn)
    result.write_text(result.read_text().replace("27.3", "37.3"))
    assert publish(study, ["layers"], OUT) == [OUT / "layers.svg"]
    assert "37.3" in (OUT / "layers.svg").read_text() and "37.3" not in drawn.read_text()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["other"], r"table or figure 'other': not among \['main', 'curves', 'attention', 'layers'\]"),
    ],
)
def test_what_is_not_there_is_one_line_and_writes_nothing(study: Study, names: list[str], message: str) -> None:
    with pytest.raises(ScfsError, match=message):
        publish(study, [*names, "main"], OUT)
    assert not OUT.exists()


def test_results_of_uncommitted_code_are_refused(fake: FakeResults, study: Study) -> None:
    record = paths.result("dino", "knn").with_suffix(".run.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "git": "f" * 40 + "-dirty"}))
    with pytest.raises(ScfsError, match=r"dino/knn\.run\.json: git = 'f+-dirty': only results of committed code"):
        publish(study, ["main"], OUT)
    assert not OUT.exists()
