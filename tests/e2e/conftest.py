"""What the tests of clusters share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import Tagmill


@pytest.fixture
def cluster(tagmill: Tagmill, tmp_path: Path) -> Tagmill:
    """The command with lane files of its own."""
    lanes = tmp_path / "tmp"
    lanes.mkdir()
    tagmill.environment |= {"TMPDIR": str(lanes)}
    return tagmill
