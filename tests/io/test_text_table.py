import pytest

from scfs.io.text_table import aligned


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    rows = [["run", "top-1", "top-5"], ["a long name", "9.5", "80.25"], ["b", "", "7"]]
    assert aligned(rows) == ["run          top-1  top-5", "a long name    9.5  80.25", "b                       7"]


def test_columns_of_words_stand_to_the_left() -> None:
    rows = [["run", "state"], ["scfs", "running on 8"], ["dino", ""]]
    assert aligned(rows, left=(0, 1)) == ["run   state       ", "scfs  running on 8", "dino              "]


def test_no_rows_are_no_lines_and_a_row_without_a_cell_is_an_error() -> None:
    assert aligned([]) == []
    with pytest.raises(ValueError, match="zip"):
        aligned([["a", "b"], ["c"]])
