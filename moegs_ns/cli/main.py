"""`moegs`: what nerfstudio's own commands do not offer."""

from typing import Annotated

from moegs_ns.cli.mistakes import in_one_sentence, quiet_imports

with quiet_imports():
    # First, and from here: nerfstudio looks through the stack of imports once for each method it
    # has heard of, which takes three times as long from where the commands would import it.
    import nerfstudio.configs.method_configs  # noqa: F401
    import tyro

    from moegs_ns.cli.analyse import Analyse
    from moegs_ns.cli.demo import Demo
    from moegs_ns.cli.export import Export
    from moegs_ns.cli.fuse import Fuse
    from moegs_ns.cli.prepare import Prepare
    from moegs_ns.cli.recipe import MixtureRecipe
    from moegs_ns.cli.render import Render
    from moegs_ns.cli.report import Report

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
    with in_one_sentence():
        tyro.cli(Command, prog="moegs", description=__doc__).main()


if __name__ == "__main__":
    main()
