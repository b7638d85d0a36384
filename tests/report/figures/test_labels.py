import pytest
from matplotlib import font_manager
from PIL import ImageFont

from scfs.report.figures.labels import fitted, placed, text_width


def test_widths_are_those_of_the_font() -> None:
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 2000)
    more = text_width("coats, coats", 20) - text_width("coats", 20)  # without the space before the first letter
    assert more == pytest.approx(font.getlength(", coats") / 100, rel=0.01)
    assert text_width("pullover", 20, bold=True) > text_width("pullover", 20)
    assert text_width(" ", 20) == 0


def test_a_text_that_is_too_wide_loses_its_end() -> None:
    assert fitted("cat", 100, 7) == "cat"
    short = fitted("potted plant on a table", 40, 7)
    assert short.endswith("…") and "potted plant on a table".startswith(short[:-1].rstrip())
    assert text_width(short, 7) <= 40 < text_width("potted plant on a table", 7)
    assert not short[:-1].endswith(" ")
    assert fitted("cat", 0, 7) == "…"


def test_a_label_stands_above_its_box_or_where_there_is_room() -> None:
    room = (100.0, 80.0)
    assert placed((20, 30, 60, 50), (30, 10), room, []) == (20, 20, 50, 30)
    assert placed((20, 4, 60, 50), (30, 10), room, []) == (20, 0, 50, 10)  # does not leave the picture
    assert placed((90, 30, 98, 50), (30, 10), room, []) == (70, 20, 100, 30)


def test_a_label_gives_way_to_those_that_stand() -> None:
    above = (20.0, 20.0, 50.0, 30.0)
    assert placed((20, 30, 60, 50), (30, 10), (100, 80), [above]) == (20, 30, 50, 40)
    inside = (20.0, 30.0, 50.0, 40.0)
    assert placed((20, 30, 60, 50), (30, 10), (100, 80), [above, inside]) == (20, 50, 50, 60)
