"""Compiling Triton kernels where there is no GPU."""

import os
import subprocess
import sys

BEGINNING = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def compile_kernel(kernel, constants, integers, floats):
    '''All other arguments are pointers to single precision.'''
    constants = {name: v for name, v in constants.items() if name in kernel.arg_names}
    kinds = dict.fromkeys(kernel.arg_names, "*fp32")
    kinds |= {name: "i32" for name in integers if name in kernel.arg_names}
    kinds |= {name: "fp32" for name in floats if name in kernel.arg_names}
    kinds |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, kinds, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert len(compiled.asm["cubin"]) > 0
"""


def compile_for_a_gpu(code: str) -> None:
    """Run code that calls `compile_kernel`, in a process without Triton's interpreter, which runs
    Python that its compiler does not understand."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + code],
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
