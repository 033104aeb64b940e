"""Runs the package under a checker of types and array shapes."""

from importlib.util import find_spec
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

UNCHECKED = {
    "__init__.py", "numba_kernels.py", "blend_kernels.py", "decoder_kernels.py", "plane_kernels.py",
    "ssim_kernels.py",
}  # fmt: skip
"""Numba and Triton compile functions as they are written."""
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # An int is a float, as for pyright.


def check_shapes() -> None:
    """Check every call of the package; to be called before anything imports it."""
    spec = find_spec("moegs_ns")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    files = [path for path in package.rglob("*.py") if path.name not in UNCHECKED]
    parts = [path.relative_to(package.parent).with_suffix("").parts for path in files]
    install_import_hook([".".join(names) for names in parts], "shape_checker.checked")
