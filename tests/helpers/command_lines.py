"""Command lines of nerfstudio as the configs that they give."""

import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion


def parse(*arguments: str):
    """The config that a command line of ns-train gives."""
    return tyro.cli(AnnotatedBaseConfigUnion, args=list(arguments))
