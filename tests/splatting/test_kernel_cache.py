"""Kernels compile and are kept wherever the package is installed and whoever runs it."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import moegs_ns
from moegs_ns.splatting import kernel_cache

RENDER = """
import moegs_ns.splatting.numba_kernels as kernels
import numpy as np
one = np.ones((1, 2), np.float32)
kernels._tile_bounds(one, np.ones(1, np.float32), 1, 1, 16)
print(kernels.__file__, sum(kernels._tile_bounds.stats.cache_hits.values()))
"""


def test_a_read_only_installation_without_a_home_renders_and_keeps_its_kernels(tmp_path: Path):
    package, temporary = tmp_path / "site" / "moegs_ns", tmp_path / "temporary"
    temporary.mkdir()
    shutil.copytree(
        Path(str(moegs_ns.__file__)).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    # Tests may run as root, who can write anywhere: a file stands where the folder would be.
    (package / "splatting" / "__pycache__").write_text("")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "PYTHONSAFEPATH")
    }
    environment |= {
        "HOME": "/dev/null", "TMPDIR": str(temporary), "PYTHONPATH": str(package.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    for hits in (0, 1):
        done = subprocess.run(
            [sys.executable, "-c", RENDER], env=environment, cwd=tmp_path,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(package / "splatting" / "numba_kernels.py"), str(hits)]
    (folder,) = temporary.iterdir()
    assert list(folder.rglob("*.nbc"))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"{kernel_cache.FOLDER}-{os.getuid()}"


def test_the_folder_is_the_user_s_own(temporary: Path):
    assert kernel_cache.own_temporary_folder() == temporary
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    assert kernel_cache.own_temporary_folder() == temporary, "found again"


@pytest.mark.parametrize("trap", ["others may write", "a link", "a file", "another owner"])
def test_code_is_never_taken_from_a_folder_that_others_could_fill(temporary, trap, monkeypatch):
    if trap == "others may write":
        temporary.mkdir()
        temporary.chmod(0o777)
    elif trap == "a link":
        (temporary.parent / "elsewhere").mkdir(mode=0o700)
        temporary.symlink_to(temporary.parent / "elsewhere")
    elif trap == "a file":
        temporary.write_text("")
    else:
        temporary.mkdir(mode=0o700)
        user = os.getuid()
        monkeypatch.setattr(kernel_cache.os, "getuid", lambda: user + 1)
        temporary.rename(f"{temporary.parent / kernel_cache.FOLDER}-{user + 1}")
    folder = kernel_cache.own_temporary_folder()
    assert folder != temporary and folder.is_dir() and not list(folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.name.startswith(f"{kernel_cache.FOLDER}-")
