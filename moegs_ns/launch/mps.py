"""NVIDIA's MPS: processes that share a GPU run on it at the same time instead of in turns.

What a daemon and its clients expect is from https://docs.nvidia.com/deploy/mps: clients find it by
`CUDA_MPS_PIPE_DIRECTORY`, and one that was started with `CUDA_VISIBLE_DEVICES` numbers the GPUs
anew, so ours is started without.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory

from nerfstudio.utils.rich_utils import CONSOLE

CONTROL = "nvidia-cuda-mps-control"
"""The program that starts, asks and ends a daemon."""
PLACES = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
"""Variables of the environment that tell clients of a daemon from others."""
PATIENCE = 60.0
"""Seconds in which the control program, and a first client, have to answer."""
FIRST_CLIENT = "import torch; torch.zeros(1, device='cuda')"
"""What a process does that finds out whether clients can compute."""


@contextmanager
def mps_daemon() -> Iterator[dict[str, str]]:
    """Run a daemon of our own, whatever others run; it ends with the block, however that ends.

    Yields the variables of the environment that make a process its client; this process is none. A
    command that is killed (-9) leaves its daemon behind, which then does nothing.

    Raises:
        RuntimeError: it does not start.
    """
    with TemporaryDirectory(prefix="moegs-mps-", ignore_cleanup_errors=True) as folder:
        variables = {name: folder for name in PLACES}
        own = {name: text for name, text in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        if not _control(["-d"], own | variables):
            raise RuntimeError(
                f"Expected NVIDIA's MPS to start, but `{CONTROL} -d` did not; install it with the "
                "driver, or train one run at a time on each GPU."
            )
        try:
            yield variables
        finally:
            _control([], own | variables, "quit\n")


@contextmanager
def shared_gpus() -> Iterator[Mapping[str, str]]:
    """Have processes share GPUs through MPS where that works.

    Yields the variables of the environment for them: none without MPS, or if a daemon runs already,
    which they find by themselves and which is left as it is.
    """
    with ExitStack() as stack:
        variables: dict[str, str] = {}
        if shutil.which(CONTROL) is not None and not is_running():
            try:
                variables = stack.enter_context(mps_daemon())
            except RuntimeError as error:
                CONSOLE.print(f"Trainings share GPUs without MPS: {error}", soft_wrap=True)
        if variables and not can_compute(variables):
            stack.close()
            variables = {}
            CONSOLE.print("Trainings share GPUs without MPS: its clients cannot compute here.")
        if variables:
            CONSOLE.print("Trainings share each GPU through NVIDIA's MPS.")
        yield variables


def is_running() -> bool:
    """Whether a daemon runs already that processes of this environment are clients of."""
    return _control([], os.environ, "get_server_list\n")


def can_compute(variables: Mapping[str, str]) -> bool:
    """Whether a process with these variables in its environment can use a GPU.

    In containers a daemon may start that no client can reach, and all trainings would fail.
    """
    command = [sys.executable, "-W", "ignore", "-c", FIRST_CLIENT]
    return _ends_well(command, {**os.environ, **variables})


def _control(args: list[str], environment: Mapping[str, str], text: str = "") -> bool:
    return _ends_well([CONTROL, *args], environment, text)


def _ends_well(command: list[str], environment: Mapping[str, str], text: str = "") -> bool:
    """Run a program quietly; whether it ended in time, and well.

    In a session of its own: Ctrl-C ends the command, which then ends its daemon.
    """
    try:
        done = subprocess.run(
            command, env=environment, input=text.encode(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
