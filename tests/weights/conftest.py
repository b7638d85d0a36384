"""What the tests of weights share."""

import pytest
from layouts import narrow_backbones


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backbones of the width that the files of `layouts` have."""
    narrow_backbones(monkeypatch)
