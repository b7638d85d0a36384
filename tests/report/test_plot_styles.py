from fake_results import STUDY

from scfs.config.study import Study, parse_study
from scfs.report.plot_styles import LIGHT, UNTRAINED_LIGHT, plot_styles, runs_in_order


def test_each_configuration_has_its_own_colour_and_seeds_share_it(study: Study, seeded: Study) -> None:
    random, dino, scfs = plot_styles(study)
    assert (random.colour, random.marker) == (UNTRAINED_LIGHT, "x")
    assert (dino.label, dino.colour, scfs.label, scfs.colour) == ("DINO", LIGHT[0], "SCFS", LIGHT[1])
    assert [(style.label, style.runs) for style in plot_styles(seeded)] == [
        ("DINO", ("dino-0", "dino-1")),
        ("SCFS", ("scfs-0", "scfs-1")),
    ]


def test_two_configurations_with_one_label_are_told_apart_by_run() -> None:
    tables = {
        name: {**STUDY["tables"]["main"], "rows": [{"label": "SCFS", "runs": [run]}]}
        for name, run in (("a", "scfs"), ("b", "long"))
    }
    study = parse_study({**STUDY, "runs": {"scfs": {}, "long": {"epochs": 8}}, "tables": tables})
    assert [style.label for style in plot_styles(study)] == ["scfs", "long"]
    assert len({(style.colour, style.marker) for style in plot_styles(study)}) == 2


def test_runs_are_shown_in_the_order_of_the_tables() -> None:
    study = parse_study({**STUDY, "runs": {"extra": {"epochs": 8}, "scfs": {}, **STUDY["runs"]}})
    assert runs_in_order(study) == ["random", "dino", "scfs", "extra"]


def test_many_configurations_stay_distinct() -> None:
    study = parse_study({**STUDY, "runs": {f"e{n}": {"epochs": n} for n in range(1, 13)}, "tables": {}})
    assert len({(style.colour, style.marker) for style in plot_styles(study)}) == 12
