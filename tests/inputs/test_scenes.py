"""Bad and odd scenes, each by the command that reads it; see docs/inputs.md."""

from pathlib import Path

import pytest
from inputs.case import Case
from inputs.checking import tried
from inputs.table import OF_SCENES, read_page


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name) for k in OF_SCENES.values() for c in k]
)
def test_it_ends_as_the_table_says(case: Case, base: Path):
    tried(case, base, {key: said for key, (_, said) in read_page().items()})
