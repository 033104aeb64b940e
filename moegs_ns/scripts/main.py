"""`moegs`: what nerfstudio's own commands do not offer."""

from typing import Annotated

from moegs_ns.errors import one_sentence_errors, quiet_imports

with quiet_imports():
    # First, and from here: nerfstudio looks through the stack of imports once for each method it
    # has heard of, which takes three times as long from where the commands would import it.
    import nerfstudio.configs.method_configs  # noqa: F401
    import tyro

    from moegs_ns.scripts.analyse import Analyse
    from moegs_ns.scripts.demo import Demo
    from moegs_ns.scripts.export import Export
    from moegs_ns.scripts.fuse import Fuse
    from moegs_ns.scripts.prepare import Prepare
    from moegs_ns.scripts.render import Render
    from moegs_ns.scripts.report import Report
    from moegs_ns.scripts.train import MixtureRecipe

Command = (
    Annotated[Analyse, tyro.conf.subcommand("analyse")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Fuse, tyro.conf.subcommand("fuse")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[MixtureRecipe, tyro.conf.subcommand("recipe")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Report, tyro.conf.subcommand("report")]
)


def main() -> None:
    """Entry point of the console script; a mistake ends in one sentence and exit status 1."""
    with one_sentence_errors():
        tyro.cli(Command, prog="moegs", description=__doc__).main()


if __name__ == "__main__":
    main()
