"""Every table of the paper on a generated scene, by the command, in one folder."""

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from tiny import TINY_POINTS

from moegs_ns.demo.scene import write_demo_scene
from moegs_ns.launch import jobs
from moegs_ns.launch.cli_args import replaced_argv, run_nerfstudio
from moegs_ns.paper import scoring, time_shares
from moegs_ns.paper.drawing import DRAWINGS
from moegs_ns.paper.tables import TABLES
from moegs_ns.scripts import main as command

BUDGETS = ("--budget", "0.0006", "--router-budget", "0.0006")
ROWS = {
    1: 7, 2: 5, 3: 5, 4: 3, 5: 4, 6: 16, 7: 6, 8: 5, 9: 5, 10: 3, 11: 9, 12: 4, 13: 3,
    "joint": 8,
}  # fmt: skip
"""As many as in the paper without methods that are not here; E-D3DGS stands in Table 9 as well.
The paper has no table of joint training."""


class Balanced(HTMLParser):
    """Notes tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def words_run(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is run in processes of its own runs in this one; the words that it was given."""
    seen: list[list[str]] = []

    def run(
        words: Sequence[str], place: int = 0, log: Path | None = None, variables: object = None
    ) -> int:
        seen.append(list(words))
        if words[0] == "nerfstudio.scripts.train":
            run_nerfstudio("train", words[1:])
            return 0
        with replaced_argv(["moegs", *words[1:]]):
            command.main()
        return 0

    monkeypatch.setattr(jobs, "run_module", run)
    monkeypatch.setattr(scoring, "run_module", run)
    return seen


@pytest.mark.slow
def test_every_table_has_its_rows_and_a_second_call_trains_nothing(
    tmp_path: Path, monkeypatch, words_run: list[list[str]]
):
    # Times of so few steps tell nothing, so one training for each share is enough.
    monkeypatch.setattr(time_shares, "TRIES", 1)
    scene, output = tmp_path / "scene", tmp_path / "outputs"
    write_demo_scene(
        scene, num_cameras=5, num_frames=4, width=32, height=24, num_points=TINY_POINTS // 4
    )
    args = ["paper", "all", "--seeds", "0", *BUDGETS, "--output-dir", str(output)]
    args += ["--data", str(scene), "n3v-data"]
    with replaced_argv(["moegs", *args]):
        command.main()
    content = json.loads((output / "paper" / "paper.json").read_text())
    means = [row for row in content["rows"] if row["scene"] == "mean"]
    found = {t.number: sum(row["table"] == t.number for row in means) for t in TABLES}
    assert found == ROWS
    assert not [text for each in content["tables"] for text in each["remarks"] if "Left" in text]
    ways = [row for row in means if row["table"] == 5]
    assert len({row["fps"] for row in ways}) == len(ways), "each way has a speed of its own"
    students = [row["gaussians"] for row in means if row["table"] == 13]
    assert max(students) == students[0], "no student has more Gaussians than the plain one"
    page = (output / "paper" / "paper.html").read_text()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == [] and page.count("<section") == len(TABLES) + len(DRAWINGS)
    assert "## Table 13" in (output / "paper" / "paper.md").read_text()
    pictures = sorted((output / "paper").glob("figure_*.png"))
    assert len(pictures) == len(DRAWINGS) and page.count("<img") == len(DRAWINGS)
    assert all(Image.open(path).width > 300 for path in pictures)

    begun = len(words_run)
    with replaced_argv(["moegs", *args]):
        command.main()
    assert words_run[begun:] == []
    again = json.loads((output / "paper" / "paper.json").read_text())
    assert again["rows"] == content["rows"]
