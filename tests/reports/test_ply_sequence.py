"""PLY files of every frame: what they hold, how a broken sequence goes on, what is refused."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import expert_clip, fused_clip
from toys import make_view

from moegs_ns.gaussians import Gaussians
from moegs_ns.reports import ply_sequence
from moegs_ns.reports.clip_frames import ClipSet, chosen_frames
from moegs_ns.reports.orientation import PLY_UP, turn_between
from moegs_ns.reports.ply_sequence import PlySequence, write_sequence
from moegs_ns.splatting import render

plyfile = pytest.importorskip("plyfile")


def plan(clip: ClipSet, frames: list[int], up: str = "as-is") -> PlySequence:
    times = [clip.time_of(frame) for frame in frames]
    return PlySequence(clip.what, "step-1.ckpt", up, frames, times, clip.scene.fps)


def read_ply(path: Path) -> Gaussians:
    """A set as a viewer of 3D Gaussian Splatting reads it: by the names of its layout."""
    vertex = plyfile.PlyData.read(str(path))["vertex"]

    def columns(*names: str) -> torch.Tensor:
        table = np.stack([np.asarray(vertex[name], np.float32) for name in names], axis=-1)
        return torch.from_numpy(table)

    rest = sum(each.name.startswith("f_rest_") for each in vertex.properties)
    harmonics = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, :, None]
    if rest:
        others = columns(*(f"f_rest_{i}" for i in range(rest))).unflatten(1, (3, -1))
        harmonics = torch.cat([harmonics, others], dim=2)
    return Gaussians(
        means=columns("x", "y", "z"),
        quats=torch.nn.functional.normalize(columns(*(f"rot_{i}" for i in range(4))), dim=1),
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        opacities=columns("opacity")[:, 0].sigmoid(),
        sh=harmonics.transpose(1, 2),
    )


def test_a_file_drawn_again_is_the_expert_at_that_time(tmp_path: Path):
    clip, view = expert_clip(), make_view()
    write_sequence(clip, plan(clip, [0, 2, 4]), None, tmp_path / "clip")
    pictures = []
    for frame in (0, 2, 4):
        found = read_ply(tmp_path / "clip" / f"frame_{frame:05d}.ply")
        with torch.no_grad():
            expected = render(clip.experts[0].at(torch.tensor(frame / 4)), view).rgb
            pictures.append(render(found, view).rgb)
        torch.testing.assert_close(pictures[-1], expected, rtol=1e-4, atol=1e-4)
    assert (pictures[0] - pictures[2]).abs().max() > 0.1, "nothing moves"


def test_a_turned_file_is_seen_by_the_turned_camera(tmp_path: Path):
    clip, view = expert_clip(), make_view()
    turn = turn_between(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(PLY_UP))
    write_sequence(clip, plan(clip, [1]), turn, tmp_path / "clip")
    # World z, which is up, has become -y, and y z.
    world = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    found = read_ply(tmp_path / "clip" / "frame_00001.ply")
    with torch.no_grad():
        seen = render(found, replace(view, viewmats=view.viewmats @ world)).rgb
        expected = render(clip.experts[0].at(torch.tensor(0.25)), view).rgb
    torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-3)


def test_of_a_mixture_the_fused_set_is_written(tmp_path: Path):
    clip = fused_clip(14, 9)
    write_sequence(clip, plan(clip, [0, 4]), None, tmp_path / "clip")
    expected = Gaussians.cat(clip.parts(4))
    shown = expected.select(expected.opacities >= 1 / 255)
    found = read_ply(tmp_path / "clip" / "frame_00004.ply")
    torch.testing.assert_close(found.opacities, shown.opacities, rtol=1e-4, atol=1e-5)
    record = json.loads((tmp_path / "clip" / "sequence.json").read_text())
    assert record["shows"] == "the fused set of expert_0 and expert_1"
    assert record["complete"] and record["times"] == [0.0, 1.0] and record["fps"] == 30.0
    assert record["files"] == ["frame_00000.ply", "frame_00004.ply"]


def test_a_broken_sequence_goes_on_where_it_stopped(tmp_path: Path, monkeypatch):
    clip, folder, asked = expert_clip(), tmp_path / "clip", []
    sequence, write = plan(clip, [0, 1, 2]), ply_sequence.write_ply

    def fail_at_the_second(gaussians, path):
        asked.append(path.name)
        if len(asked) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(gaussians, path)

    monkeypatch.setattr(ply_sequence, "write_ply", fail_at_the_second)
    with pytest.raises(OSError, match="No space"):
        write_sequence(clip, sequence, None, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["frame_00000.ply", "sequence.json"]
    assert not json.loads((folder / "sequence.json").read_text())["complete"]
    assert write_sequence(clip, sequence, None, folder) == (2, 1)
    assert asked == ["frame_00000.ply", "frame_00001.ply", "frame_00001.ply", "frame_00002.ply"]
    assert json.loads((folder / "sequence.json").read_text())["complete"]
    assert write_sequence(clip, sequence, None, folder) == (0, 3)


def test_a_folder_with_something_else_is_refused(tmp_path: Path):
    clip, folder = expert_clip(), tmp_path / "clip"
    write_sequence(clip, plan(clip, [0]), None, folder)
    before = (folder / "sequence.json").read_text()
    with pytest.raises(ValueError, match=r"another sequence \(other up\)"):
        write_sequence(clip, plan(clip, [0], up="up is z"), None, folder)
    with pytest.raises(ValueError, match=r"\(other frames, times\)"):
        write_sequence(clip, plan(clip, [0, 1]), None, folder)
    assert (folder / "sequence.json").read_text() == before
    notes = tmp_path / "mine"
    notes.mkdir()
    (notes / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else; name another --output"):
        write_sequence(clip, plan(clip, [0]), None, notes)
    with pytest.raises(ValueError, match="is a file"):
        write_sequence(clip, plan(clip, [0]), None, notes / "notes.txt")
    assert [path.name for path in notes.iterdir()] == ["notes.txt"]


def test_frames_are_those_of_the_recording():
    scene = replace(expert_clip().scene, first_frame=100)
    assert chosen_frames(scene, None) == [100, 101, 102, 103, 104]
    assert chosen_frames(scene, (101, 104), 2) == [101, 103]
    for wrong in ((0, 4), (101, 105), (103, 102)):
        with pytest.raises(ValueError, match=r"frames of this clip, 100 to 104, got"):
            chosen_frames(scene, wrong)
    with pytest.raises(ValueError, match=r"--every expects .* at least 1, got 0"):
        chosen_frames(scene, None, 0)
