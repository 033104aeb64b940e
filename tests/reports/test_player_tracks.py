"""What the player page stores of a clip, and what its scripts make of that, without a browser."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import expert_clip, fused_clip
from node_scripts import FOLDER, decoded, needs_node, run_node
from toys import make_view

from moegs_ns.experts.base import Expert
from moegs_ns.gaussians import Gaussians
from moegs_ns.reports.player_codec import pack, pack_within
from moegs_ns.reports.player_page import camera_entry
from moegs_ns.reports.player_tracks import bake, blends, key_frames, nearest_seen


class TestBaking:
    def test_rows_are_the_gaussians_that_are_ever_seen(self):
        clip = fused_clip(14, 9)
        tracks = bake(clip, [0, 2, 4])
        with torch.no_grad():
            sets = [Gaussians.cat(clip.parts(frame)) for frame in (0, 2, 4)]
        opacities = torch.stack([part.opacities for part in sets])
        shown = (opacities >= 1 / 255).any(0)
        assert 0 < len(tracks) == int(shown.sum())
        seen = tracks.opacities > 0
        np.testing.assert_allclose(tracks.opacities[seen], opacities[:, shown].numpy()[seen])
        means = torch.stack([part.means for part in sets])[:, shown].numpy()
        np.testing.assert_allclose(tracks.means[seen], means[seen])
        for k, (expert, near, eps2d, antialiased) in enumerate(tracks.kinds):
            assert (expert, near) == (k, pytest.approx(clip.experts[k].near))
            assert (eps2d, antialiased) == (pytest.approx(0.3), False)
        assert len(tracks.kinds) == 2

    def test_those_that_stand_still_are_told_from_those_that_move(self):
        tracks = bake(expert_clip(40, moving=10), [0, 1, 2, 3, 4])
        still = tracks.is_still()
        assert 20 < still.sum() <= 30 and not still[: len(still) - 30].any()
        packed = pack(tracks)
        assert packed.num_still == still.sum() and packed.num_moving == (~still).sum()

    def test_where_nobody_sees_them_gaussians_wait(self):
        is_seen = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)
        assert nearest_seen(is_seen).T.tolist() == [
            [1, 1, 1, 4, 4], [0, 0, 3, 3, 3], [0, 1, 2, 3, 4],
        ]  # fmt: skip

    def test_key_frames_are_evenly_apart_and_the_last_is_one(self):
        assert key_frames(range(300), 60) == [*range(0, 300, 6), 299]
        assert key_frames(range(5), 60) == [0, 1, 2, 3, 4]
        assert key_frames([7], 60) == [7]
        assert all(len(key_frames(range(n), 60)) <= 61 for n in range(1, 400, 7))

    def test_between_windows_nothing_is_blended(self, monkeypatch):
        clip = expert_clip()
        assert blends(clip, [0, 4])
        others = {0.0: clip.experts[0], 1.0: expert_clip().experts[0]}
        monkeypatch.setattr(Expert, "member_at", lambda self, time: others[float(time)])
        assert not blends(clip, [0, 4])

    def test_nothing_to_show(self):
        clip = expert_clip()
        clip.experts[0].gauss_params["opacities"].data[:] = -20.0
        with pytest.raises(ValueError, match="opaque enough to be seen at any of these frames"):
            bake(clip, [0, 4])


class TestSize:
    def test_the_most_important_fit(self):
        tracks = bake(expert_clip(400), [0, 2, 4])
        whole = len(pack(tracks).content)
        packed, count = pack_within(tracks, 0.5 * whole, lambda one: len(one.content))
        assert len(packed.content) <= 0.5 * whole
        assert 0.35 * len(tracks) < count == packed.num_still + packed.num_moving
        smallest = np.sort(tracks.importance())[-count]
        chosen = tracks.select(tracks.importance() >= smallest)
        assert pack(chosen).content == packed.content

    def test_all_of_them_if_there_is_room(self):
        tracks = bake(expert_clip(40), [0, 4])
        assert pack_within(tracks, 1e9, lambda one: len(one.content))[1] == len(tracks)

    def test_no_room_for_any(self):
        tracks = bake(expert_clip(40), [0, 4])
        with pytest.raises(ValueError, match="--max-mb expects room for some Gaussians"):
            pack_within(tracks, 10, lambda one: len(one.content))


@needs_node
class TestScripts:
    def test_key_frames_are_what_was_baked(self, tmp_path: Path):
        page = decoded(expert_clip(40, moving=10), [0, 2, 4], [0, 2, 4], tmp_path)
        states, tracks = page.states, page.tracks
        box = np.ptp(tracks.means, axis=(0, 1)).max()
        moving = ~tracks.is_still()
        assert 0 < moving.sum() < len(tracks)
        for k in range(3):
            rows = slice(None) if k == 0 else moving
            state = states[k][rows]
            np.testing.assert_allclose(state[:, :3], tracks.means[k][rows], atol=box / 2**23)
            np.testing.assert_allclose(state[:, 3], tracks.opacities[k][rows], atol=0.51 / 255)
            np.testing.assert_allclose(state[:, 4:8], tracks.quats[k][rows], atol=1e-4)
            ratio = np.log(state[:, 8:11]) - tracks.log_scales[k][rows]
            assert np.abs(ratio).max() <= 0.51 * np.ptp(tracks.log_scales) / 255 + 1e-5
            np.testing.assert_allclose(state[:, 12:15], tracks.colors[k][rows], atol=0.51 * 3 / 255)
        assert (states[:, :, 11] == 0).all()
        codes = pack(tracks).codes["slopes"]
        values = page.slopes[:, :, :3].reshape(-1, 9) * np.array(codes.step) + np.array(codes.low)
        np.testing.assert_allclose(values, np.clip(tracks.slopes, -1, 1), atol=0.51 * 2 / 255)

    def test_between_key_frames_gaussians_move_on(self, tmp_path: Path):
        page = decoded(expert_clip(40), [0, 4], [0, 1, 4], tmp_path)
        states, tracks = page.states, page.tracks
        moving = ~tracks.is_still()
        expected = 0.75 * states[0, :, :8] + 0.25 * states[2, :, :8]
        np.testing.assert_allclose(states[1, :, :8][moving], expected[moving], atol=1e-4)
        assert np.abs(states[2] - states[0]).max() > 0.1

    def test_without_blending_the_nearest_key_frame_is_shown(self, tmp_path: Path, monkeypatch):
        monkeypatch.setitem(decoded.__globals__, "blends", lambda clip, keys: False)
        states = decoded(expert_clip(40), [0, 4], [0, 1, 3, 4], tmp_path).states
        np.testing.assert_array_equal(states[1], states[0])
        np.testing.assert_array_equal(states[2], states[3])

    def test_sorting_is_from_far_to_near_and_leaves_out_what_lies_behind(self, tmp_path: Path):
        generator = np.random.default_rng(0)
        centres = generator.normal(size=(500, 3)) * np.array([1.0, 1.0, 30.0])
        call = (
            f"centres = new Float32Array({json.dumps(centres.ravel().tolist())});\n"
            "process.stdout.write(JSON.stringify({order: Array.from(sorted([0.6, 0, 0.8], 5))}));"
        )
        source = "let onmessage, postMessage;\n" + (FOLDER / "sorter.js").read_text() + call
        order = run_node(tmp_path, source)["order"]
        depths = centres @ np.array([0.6, 0, 0.8]) + 5
        assert sorted(order) == np.flatnonzero(depths > 0).tolist()
        found = depths[order]
        assert (np.diff(found) <= 1e-3 * found[:-1]).all()

    def test_a_camera_orbits_about_the_point_that_it_looks_at(self, tmp_path: Path):
        view = make_view(2, width=60, height=40).select(torch.tensor([1]))
        cameras = [camera_entry("a", view, 2.0)]
        header = {"up": [0, -1, 0], "focus": [0.5, 0.2, 4.0], "cameras": cameras}
        call = """
        const camera = new Camera(header), before = camera.centre;
        const found = { first: Array.from(camera.viewMatrix()), before };
        found.lens = Array.from(camera.lens(120, 100));
        camera.orbit(0.5, 0.2);
        Object.assign(found, { after: camera.centre, second: Array.from(camera.viewMatrix()) });
        camera.zoom(0.5); Object.assign(found, { near: camera.distance, still: camera.centre });
        process.stdout.write(JSON.stringify(found));
        """
        source = (FOLDER / "camera.js").read_text() + f"const header = {json.dumps(header)};" + call
        found = run_node(tmp_path, source)
        first, second = (np.array(found[name]).reshape(4, 4).T for name in ("first", "second"))
        np.testing.assert_allclose(first, view.viewmats[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(found["after"], found["before"], atol=1e-6)
        np.testing.assert_allclose(found["still"], found["before"], atol=1e-6)
        np.testing.assert_allclose(second[:3, :3] @ second[:3, :3].T, np.eye(3), atol=1e-5)
        centre = np.array([*found["after"], 1.0])
        np.testing.assert_allclose((second @ centre)[:2], 0, atol=1e-4)
        distance = float((first @ centre)[2])
        assert (second @ centre)[2] == pytest.approx(distance, abs=1e-4)
        assert found["near"] == pytest.approx(distance / 2, abs=1e-4)
        assert np.abs(second - first).max() > 0.2
        # All of the image is seen, in the middle: twice as large, with ten pixels above and below.
        K = view.Ks[0]
        expected = [2 * K[0, 0], 2 * K[1, 1], 2 * K[0, 2], 2 * K[1, 2] + 10]
        np.testing.assert_allclose(found["lens"], [float(value) for value in expected], atol=1e-4)
