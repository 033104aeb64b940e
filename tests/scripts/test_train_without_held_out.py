"""`moegs train` on data of which nothing is held out: trained, told, and the rest of the table."""

import json
from pathlib import Path

from data_helpers import dycheck_scene

from moegs_ns.launch.cli_args import replaced_argv
from moegs_ns.scripts import main as command


def test_there_is_nothing_to_score(tmp_path: Path, typed_commands, capsys):
    scene, table = dycheck_scene(tmp_path / "scene"), tmp_path / "table.json"
    words = ["--experts", "stg", "--expert-budget", "0.0001", "--router-budget", "0.0004"]
    words += ["--data", str(scene), "--output-dir", str(tmp_path / "runs"), "--output", str(table)]
    with replaced_argv(["moegs", "train", *words, "dycheck-data"]):
        command.main()
    assert [words[0] for words in typed_commands] == ["moegs-stg", "moegs-router"]
    said = " ".join(capsys.readouterr().out.split())
    assert "There is nothing to score: all evaluation images of the data (1) are training" in said
    expert, mixture = json.loads(table.read_text())["rows"]
    for row in (expert, mixture):
        assert row["psnr"] is None and row["ssim"] is None and row["images"] == 0
        assert row["gaussians"] > 0 and row["mb"] > 0 and row["fps"] > 0
        assert row["train_seconds"] > 0
        assert row["reason"].startswith("psnr and all other figures of images: all evaluation")
        assert "nothing moves" not in row["reason"]
