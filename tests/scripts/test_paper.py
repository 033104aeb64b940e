"""`moegs paper`: its words, its plan, its mistakes."""

from pathlib import Path

import pytest

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command
from moegs_ns.scripts.paper import one_option_each, scenes_of


def run(*args: str, parser: tuple[str, ...] = ("n3v-data",)) -> None:
    with replaced_argv(["moegs", "paper", *args, *parser]):
        command.main()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper") / "scene"
    write_demo_scene(folder, num_cameras=4, num_frames=3, width=16, height=12, num_points=50)
    return folder


def test_a_dry_run_prints_the_plan_and_trains_nothing(
    scene, tmp_path: Path, typed_commands, capsys
):
    output = tmp_path / "outputs"
    run("10", "1", "--set", "n2", "--budget", "0.1", "--router-budget", "0.2", "--dry-run",
        "--output-dir", str(output), "--data", str(scene))  # fmt: skip
    assert typed_commands == [] and not output.exists()
    lines = [
        " ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()
    ]
    starts = ["moegs-ex4dgs (seed 0) new 4,000", "moegs-stg (seed 0) new 3,000"]
    starts += ["moegs-router (seed 0) new 1,000"]
    found = [line for line in lines if "(seed 0)" in line]
    assert len(found) == 3 and all(map(str.startswith, found, starts))
    assert "1 at a time on the CPU" in " ".join(lines)


def test_a_figure_names_what_it_is_drawn_from(scene, tmp_path: Path, typed_commands, capsys):
    """One seed is enough, and tables share trainings with figures."""
    run("figure9", "10", "figure4", "--seeds", "3", "4", "--dry-run",
        "--output-dir", str(tmp_path), "--data", str(scene))  # fmt: skip
    lines = [
        " ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()
    ]
    found = [line for line in lines if "(seed " in line]
    assert typed_commands == []
    shared = [line for line in found if line.startswith("moegs-ed3dgs (seed 3)")]
    assert any("10, figure4, figure9" in line for line in shared), shared
    of_figures = [line for line in found if "figure" in line]
    assert all("(seed 3)" in line for line in of_figures)
    # Four experts, a mixture of them, one of three, and three students.
    assert len(of_figures) == 9 and "Table 6" not in " ".join(lines)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["15"], "numbers of tables from 1 to 13, joint, or all, .*got 15"),
        ([], "numbers of tables from 1 to 13, joint, or all, .*got none"),
        (["1", "figure2"], "figures out of figure1, figure4, .*figure11, got figure2; .*diagrams"),
        (["1", "--set", "n2", "--experts", "stg", "ex4dgs"], "--set or --experts, got both"),
        (["1", "--experts", "stg", "gs"], "two or more different methods out of 4dgaussians"),
        (["1", "--experts", "stg"], "two or more different methods"),
        (["1", "--experts", "stg", "moegs-stg"], "two or more different methods"),
        (["13", "--set", "n2"], "Table 13 expects ed3dgs among the experts of the teacher"),
        (["1", "--seeds", "1", "1"], "--seeds expects each seed once, got 1 1"),
        (["1", "--seeds", "-1"], "--seeds expects a number from 0"),
        (["1", "--budget", "0"], "--budget expects a number above 0"),
        (["1", "--router-budget", "-1"], "--router-budget expects a number above 0"),
        (["1", "--expert-options", "gs: --a 1"], "'gs' is neither"),
        (["1", "--at-once", "0"], "--at-once expects at least 1, got 0"),
        (["1", "--output", "table.txt"], "--output expects the name of a .json"),
        (["1", "--train-options=--a 'b"], "--train-options expects options as on a command line"),
        (["1", "--val-cameras", "99"], "99"),
        (["1", "--data", "nowhere"], "Expected a scene folder at .*nowhere"),
    ],
)
def test_mistakes_end_before_anything_is_trained(
    scene: Path, tmp_path: Path, typed_commands, args: list[str], message: str
):
    data = [] if "--data" in args else ["--data", str(scene)]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(*args, "--output-dir", str(tmp_path / "outputs"), *data)
    assert typed_commands == [] and not (tmp_path / "outputs").exists()


def test_scenes_may_stand_behind_one_option():
    words = ["paper", "1", "--data", "a", "b", "n3v-data", "--frames", "0", "3"]
    assert one_option_each(words) == [
        "paper", "1", "--data", "a", "--data", "b", "n3v-data", "--frames", "0", "3"
    ]  # fmt: skip
    words = ["paper", "1", "--data", "a", "--seeds", "0", "1", "--data", "b", "n3v-data"]
    assert one_option_each(words) == words


def test_scenes_of_one_name_are_told_apart():
    names = [scene.name for scene in scenes_of([Path("/a/x"), Path("/b/y")])]
    assert names == ["x", "y"]
    names = [scene.name for scene in scenes_of([Path("/a/x"), Path("/b/x")])]
    assert names == ["a/x", "b/x"]
    for given in ([], [Path("/a"), Path("/a")]):
        with pytest.raises(ValueError, match="folders of one or more scenes, each once"):
            scenes_of(given)
