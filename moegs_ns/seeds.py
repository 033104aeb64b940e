"""The seed of the run, for everything that draws random numbers of its own."""

import torch


def run_seed() -> int:
    """The number that torch was seeded with, as a seed for other generators.

    nerfstudio calls `torch.manual_seed(--machine.seed)` before anything is built, but hands the
    number on to no parser, datamanager or expert. Asking torch lets --machine.seed decide all that
    is drawn, and changes no random stream.
    """
    return torch.initial_seed() % 2**31
