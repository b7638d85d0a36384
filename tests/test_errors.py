import pytest

from scfs.errors import ScfsError, reading, refusing


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("of some kind"), "of some kind"),
        (KeyError("name"), "KeyError('name')"),
        (FileNotFoundError(2, "No such file or directory", "/a/file"), "No such file or directory"),
        (OSError("without a number"), "without a number"),
    ],
)
def test_an_error_becomes_one_line_with_what_why_and_advice(error, why):
    with (
        pytest.raises(ScfsError) as refused,
        refusing("a.json: not JSON", ValueError, LookupError, OSError, advice="; do"),
    ):
        raise error
    assert str(refused.value) == f"a.json: not JSON: {why}; do"
    assert refused.value.__cause__ is None and refused.value.__suppress_context__


def test_errors_of_other_kinds_pass():
    with pytest.raises(TypeError), refusing("a.json", ValueError):
        raise TypeError
    with pytest.raises(EOFError), refusing("a.tar", ValueError, into=EOFError):
        raise ValueError


def test_a_file_that_cannot_be_read(tmp_path):
    with (
        pytest.raises(ScfsError, match=r"gone.txt: cannot be read: No such file or directory$"),
        reading(tmp_path / "gone.txt"),
    ):
        (tmp_path / "gone.txt").read_text()
