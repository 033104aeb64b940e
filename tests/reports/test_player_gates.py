"""What the page holds of a mixture's router and what its scripts make of it, without a browser."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import expert_clip, fused_clip
from node_scripts import FOLDER, decoded, needs_node, run_node
from tolerances import FORWARD

from moegs_ns.mixture.mixture import GateConfig
from moegs_ns.mixture.volume_mixture import mixture_of
from moegs_ns.reports.player_gates import MOST_WEIGHTS, gated, gates_header, not_expressed
from moegs_ns.reports.player_tracks import bake
from moegs_ns.routers import (
    EVIDENCE,
    MIN_OPACITY,
    PixelRouterConfig,
    RouterConfig,
    VolumeAwarePixelRouter,
    VolumeAwarePixelRouterConfig,
    VolumeRouterConfig,
)

COUNTS = (14, 9)


def corrected(*counts: int):
    """A clip whose router has learned a correction of its logits."""
    clip = gated(fused_clip(*counts, router=VolumeAwarePixelRouterConfig(stacked=True)))
    router = clip.mixture.router
    assert isinstance(router, VolumeAwarePixelRouter) and router.correction is not None
    evidence = [{name: torch.rand(count) for name in EVIDENCE} for count in counts]
    router.correction.set_(evidence, torch.tensor([0.3, -0.2]), torch.arange(6.0))
    clip.mixture.eval()
    return clip


def phi_of(header: dict[str, Any], x: torch.Tensor) -> torch.Tensor:
    for depth, layer in enumerate(header["phi"]):
        x = x @ torch.tensor(layer["rows"]).T + torch.tensor(layer["bias"])
        x = x.relu() if depth < len(header["phi"]) - 1 else x
    return x


class TestHeader:
    @pytest.mark.parametrize("is_refined", [True, False])
    @pytest.mark.parametrize("has_directions", [True, False])
    def test_logits_are_those_of_the_router(self, is_refined: bool, has_directions: bool):
        config = VolumeAwarePixelRouterConfig(refine=is_refined, direction_weights=has_directions)
        clip = gated(fused_clip(*COUNTS, router=config))
        header, router, time = gates_header(clip), clip.mixture.router, torch.tensor(0.3)
        assert header is not None and header["correction"] is None
        # One pixel for each Gaussian of the first expert, all of which it shows.
        rows = clip.gate_features[0]
        maps = router.gaussian_features(0, None, time)[None, None]
        origins = torch.randn(1, COUNTS[0], 3)
        directions = torch.nn.functional.normalize(torch.randn(1, COUNTS[0], 3), dim=-1)
        expected = router(maps, origins, directions, time)[0, 0, :, 0]

        center = torch.tensor(header["center"])
        ray = torch.cat([(origins[0] - center) / header["extent"], directions[0]], dim=1)
        columns = {name: rows[:, [k]] for k, name in enumerate(header["weights"])}
        if "w_time" in columns:
            columns["w_time"] = time * columns["w_time"]
        found = columns["w"][:, 0]
        if header["phi"]:
            inputs = [(columns | {"ray": ray})[name] for name in header["inputs"]]
            found = found + phi_of(header, torch.cat(inputs, dim=1))[:, 0]
        assert len(header["phi"]) == (3 if is_refined else 0)
        FORWARD.assert_close(found, expected)

    def test_the_pixel_router_has_rays_time_and_biases(self):
        clip = gated(fused_clip(*COUNTS, router=PixelRouterConfig(hidden=(5,))))
        header, router, time = gates_header(clip), clip.mixture.router, torch.tensor(0.3)
        assert header is not None
        origins, directions = torch.randn(1, 6, 3), torch.randn(1, 6, 3)
        expected = router(torch.zeros(2, 1, 6, 0), origins, directions, time)[:, 0, :, 0]
        assert (header["weights"], header["inputs"]) == ([], ["ray", "time"])
        ray = (origins[0] - torch.tensor(header["center"])) / header["extent"]
        inputs = torch.cat([ray, directions[0], time.expand(6, 1)], dim=1)
        FORWARD.assert_close(phi_of(header, inputs).T, expected)

    def test_what_else_blends(self):
        clip = gated(fused_clip(*COUNTS))
        clip.mixture.gate_config = GateConfig(uniform=0.2)
        clip.experts[1].background.fill_(0.5)
        header = gates_header(clip)
        assert header is not None
        assert (header["temperature"], header["uniform"]) == (0.7, 0.2)
        assert (header["firstFrame"], header["lastFrame"]) == (0, 4)
        assert header["backgrounds"][1] == [0.5] * 3 and len(header["backgrounds"]) == 2

    def test_a_correction_is_packed_with_its_evidence(self):
        clip = corrected(*COUNTS)
        header, features = gates_header(clip), clip.gate_features
        assert header is not None
        linear = header["correction"]
        assert linear["bias"] == pytest.approx([0.3, -0.2]) and linear["minOpacity"] == MIN_OPACITY
        assert linear["slopes"] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        router: Any = clip.mixture.router
        for k, table in enumerate(features):
            evidence = router.correction.evidence[k]
            for column, name in enumerate(EVIDENCE, start=3):
                FORWARD.assert_close(table[:, column], evidence[name])

    def test_sets_without_gates_have_none(self):
        clip = fused_clip(*COUNTS)
        assert gates_header(clip) is None and gates_header(expert_clip()) is None
        assert bake(clip, [0, 4]).features.shape[1] == 0


class TestWhatIsExpressed:
    @pytest.mark.parametrize(
        ("router", "reason"),
        [
            (VolumeAwarePixelRouterConfig(kernel_size=3), "Φ has kernels of 3x3, and a page"),
            (VolumeAwarePixelRouterConfig(hidden=(200, 200)), f"takes at most {MOST_WEIGHTS:,}"),
            (VolumeAwarePixelRouterConfig(kernel_size=3, refine=False), None),
            (VolumeAwarePixelRouterConfig(stacked=True), None),
            (PixelRouterConfig(), None),
        ],
    )
    def test_routers(self, router: RouterConfig, reason: str | None):
        found = not_expressed(fused_clip(*COUNTS, router=router).mixture)
        assert found is None if reason is None else reason in str(found)

    def test_gates_of_regions(self):
        mixed = fused_clip(*COUNTS).mixture
        mixed.gate_config = GateConfig(blur=0.02)
        assert "blurred" in str(not_expressed(mixed))

    def test_gates_that_come_from_opacities(self):
        mixed = fused_clip(*COUNTS).mixture
        counts = [each.num_gaussians for each in mixed.experts]
        router = VolumeRouterConfig().setup(scene=mixed.experts[0].scene, counts=counts)
        volume = mixture_of(mixed.experts, router, 1.0)
        assert not_expressed(volume) == "a page has no gates of a VolumeRouter"

    def test_weights_that_are_no_numbers(self):
        mixed = fused_clip(*COUNTS).mixture
        next(iter(mixed.router.phi.parameters())).data[0] = torch.nan
        assert "no finite numbers" in str(not_expressed(mixed))


@needs_node
class TestScripts:
    def test_features_shares_and_experts_of_gaussians(self, tmp_path: Path):
        clip = corrected(*COUNTS)
        page = decoded(clip, [0, 2, 4], [4], tmp_path)
        tracks = page.tracks
        assert len(tracks) > 15 and tracks.features.shape[1] == 7
        features = page.features.reshape(len(tracks), 3, 4)[:, :, :3].reshape(len(tracks), 9)
        atol = 0.51 * np.ptp(tracks.features, axis=0).max() / 65535
        np.testing.assert_allclose(features[:, :7], tracks.features, atol=atol + 1e-6)
        np.testing.assert_allclose(page.states[0][:, 15], tracks.shares, atol=0.51 / 255)
        assert np.ptp(tracks.shares) > 0.2
        expected = [tracks.kinds[kind][0] for kind in tracks.kind_of]
        assert page.experts.tolist() == expected and set(expected) == {0, 1}

    def test_shares_and_features_are_those_of_the_same_gaussians(self):
        clip = gated(fused_clip(*COUNTS))
        tracks = bake(clip, [0, 2, 4])
        with torch.no_grad():
            means = np.concatenate([part.means.numpy() for part in clip.parts(2)])
        distances = np.abs(tracks.means[1][:, None] - means).sum(2)
        rows, is_there = distances.argmin(1), distances.min(1) < 1e-6
        assert is_there.sum() > 10
        shares, features = (torch.cat(each) for each in (clip.shares, clip.gate_features))
        np.testing.assert_allclose(tracks.shares[is_there], shares.numpy()[rows][is_there])
        np.testing.assert_allclose(tracks.features[is_there], features.numpy()[rows][is_there])

    def test_experts_are_sorted_apart(self, tmp_path: Path):
        call = (
            "experts = new Uint8Array([0, 2, 2, 0, 2]);\n"
            "const found = apart(new Uint32Array([4, 3, 1, 0]), 3);\n"
            "const { order, starts } = found;\n"
            "process.stdout.write(JSON.stringify({ order: Array.from(order), starts }));"
        )
        source = "let onmessage, postMessage;\n" + (FOLDER / "sorter.js").read_text() + call
        found = run_node(tmp_path, source)
        assert found == {"order": [3, 0, 4, 1], "starts": [0, 2, 2, 4]}

    def test_the_code_of_phi(self, tmp_path: Path):
        """As JavaScript, which differs from the shader's language in two words."""
        clip = gated(fused_clip(*COUNTS, router=PixelRouterConfig(hidden=(40, 20))))
        header = gates_header(clip)
        assert header is not None
        x = torch.randn(7)
        call = (
            f"const code = phiCode({json.dumps(header['phi'])});\n"
            "const own = code.replaceAll('float ', 'let ').replaceAll('max(', 'Math.max(');\n"
            "const y = []; new Function('x', 'y', own)"
            f"({json.dumps(x.tolist())}, y); process.stdout.write(JSON.stringify({{ y }}));"
        )
        source = (FOLDER / "gates_shader.js").read_text() + call
        found = torch.tensor(run_node(tmp_path, source)["y"])
        FORWARD.assert_close(found, phi_of(header, x))
