"""The folder that all inputs are copies of, made once also where several workers test."""

from pathlib import Path

import pytest
from filelock import FileLock
from inputs.folders import BASE, make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Scenes and runs, see `inputs.folders`."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent
    made = folder / "inputs"
    with FileLock(folder / "inputs.lock"):
        if not (made / "done").exists():
            make_base(made)
            (made / "done").touch()
    return made / BASE
