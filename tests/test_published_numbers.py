"""Every number of the methods against its source, one row each; and what numbers become when an
expert, a router or an optimiser is built."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from method_settings import decisive_settings
from mixture_helpers import SCENE
from nerfstudio.configs.method_configs import all_methods
from published_constants import CONSTANTS
from published_numbers import NUMBERS, OWN
from torch import nn

from moegs_ns.experts.base import Expert
from moegs_ns.routers import (
    PixelRouterConfig,
    Router,
    VolumeAwarePixelRouterConfig,
    VolumeRouterConfig,
)
from moegs_ns.scene import InitialPoints

ROOT = Path(__file__).parent.parent
ROWS = [(method, name) for method, numbers in NUMBERS.items() for name in numbers]
POINTS = InitialPoints(
    torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]]),
    torch.full((4, 3), 0.25),
    torch.arange(4),
)


@pytest.mark.parametrize("method", NUMBERS)
def test_every_number_has_a_source(method: str):
    assert NUMBERS[method].keys() == decisive_settings(method).keys()


@pytest.mark.parametrize(("method", "name"), ROWS)
def test_a_number_is_that_of_its_source(method: str, name: str):
    value, source = NUMBERS[method][name]
    assert decisive_settings(method)[name] == value, source


@pytest.mark.parametrize("place", CONSTANTS)
def test_a_constant_is_that_of_its_source(place: str):
    value, source = CONSTANTS[place]
    module, _, name = place.partition(":")
    assert getattr(import_module(module), name) == value, source


def test_numbers_of_our_own_are_on_the_page_of_defaults():
    text = (ROOT / OWN).read_text()
    own = {name for numbers in NUMBERS.values() for name, (_, at) in numbers.items() if at == OWN}
    own |= {place.partition(":")[2] for place, (_, source) in CONSTANTS.items() if source == OWN}
    # A page names groups and options by their last word, as `min_observations`.
    missing = {name for name in own if f"`{name.rpartition('.')[2]}`" not in text}
    assert not missing


# ---- what is built ----


def router(config: Any) -> Router:
    return config.setup(scene=SCENE, counts=[3, 2])


def test_weights_of_the_router_start_as_published():
    """w at 0.9 (released code), w_dir and w_time neutral (appendix B.3)."""
    built = router(VolumeAwarePixelRouterConfig())
    for count, weights in zip((3, 2), built.gaussian_weights, strict=True):
        assert {name: value.tolist() for name, value in weights.items()} == {
            "w": pytest.approx([0.9] * count), "w_dir": [0.0] * count, "w_time": [0.0] * count,
        }  # fmt: skip


def test_the_refining_network_is_the_published_one():
    """1x1 convolutions 8 to 6 to 3 to 1 with ReLU between them and no bias (released code)."""
    phi = list(router(VolumeAwarePixelRouterConfig()).phi)
    shapes = [(*m.weight.shape, m.bias) for m in phi if isinstance(m, nn.Conv2d)]
    assert shapes == [(6, 8, 1, 1, None), (3, 6, 1, 1, None), (1, 3, 1, 1, None)]
    assert [type(m) for m in phi[1::2]] == [nn.ReLU, nn.ReLU]


def test_all_scores_of_the_volume_router_start_at_zero():
    built = router(VolumeRouterConfig())
    assert all((value == 0).all() for rows in built.gaussian_weights for value in rows.values())
    features = torch.randn(5, 3)
    scores = built(features, torch.randn(5, 3), torch.zeros(3))
    torch.testing.assert_close(scores, features[:, 0], rtol=0.0, atol=0.0)


def test_gates_of_the_pixel_router_are_equal_at_first():
    built = router(PixelRouterConfig())
    rays = torch.randn(2, 4, 5, 3)
    logits = built(torch.zeros(2, 4, 5, 0), rays[0], rays[1], torch.tensor(0.3))
    assert (logits == 0).all()


@pytest.mark.parametrize(
    ("group", "optimizer", "ratios"),
    [
        ("router_weights", "FusedRAdam", {0: 1.0, 5000: 0.1, 10000: 0.01, 20000: 0.01}),
        ("router_time", "FusedRAdam", {0: 1.0, 5000: 1.0, 10000: 1.0}),
        ("router_phi", "FusedRAdam", {0: 1.0, 5000: 1.0, 10000: 1.0}),
    ],
)
def test_groups_of_the_router_get_their_rates_at_every_step(
    group: str, optimizer: str, ratios: dict[int, float]
):
    """As nerfstudio builds them: rate and decay of w and w_dir apart from w_time and Φ."""
    config = all_methods["moegs-router"].optimizers[group]
    parameter = nn.Parameter(torch.zeros(2))
    built = config["optimizer"].setup(params=[parameter])
    assert type(built).__name__ == optimizer
    rate = 0.5 if group == "router_weights" else 0.05
    assert built.param_groups[0]["lr"] == rate
    schedule = config["scheduler"]
    found = {step: 1.0 if schedule is None else schedule.ratio(step) for step in ratios}
    assert found == pytest.approx(ratios)


def test_weights_of_time_are_a_group_of_their_own():
    """w and w_dir share the higher rate, w_time has that of Φ (appendix B.3)."""
    groups = router(VolumeAwarePixelRouterConfig()).parameter_groups()
    rows = router(VolumeAwarePixelRouterConfig()).gaussian_weights
    assert {name: len(parameters) for name, parameters in groups.items()} == {
        "router_weights": 2 * len(rows), "router_time": len(rows), "router_phi": 3
    }  # fmt: skip


def built_expert(method: str, **changes: Any) -> Expert:
    config = all_methods[method].pipeline.model.expert
    return type(config)(**(vars(config) | changes)).setup(scene=SCENE, points=POINTS)


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-4dgaussians", "moegs-ed3dgs"])
def test_gaussians_start_as_published(method: str):
    """Opacity 0.1, upright, as large as the distance of the three neighbours on average."""
    rows = built_expert(method).gauss_params
    torch.testing.assert_close(rows["opacities"].sigmoid(), torch.full((4,), 0.1))
    torch.testing.assert_close(rows["quats"], torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(4, 1))
    sizes = rows["scales"].exp()
    torch.testing.assert_close(sizes[0], torch.full((3,), 0.1))
    torch.testing.assert_close(sizes[1], torch.full((3,), (0.05 / 3) ** 0.5))
    # SH of degree 0 is colour less one half over 0.28209 (1 / (2 √π)).
    torch.testing.assert_close(rows["sh0"], torch.full((4, 1, 3), -0.25 / 0.28209), rtol=1e-4,
                               atol=0.0)  # fmt: skip
    assert (rows["shN"] == 0).all()


def test_what_moves_starts_at_rest_as_published():
    stg = built_expert("moegs-stg").gauss_params
    assert (stg["motion"] == 0).all() and (stg["angular_rates"] == 0).all()
    torch.testing.assert_close(stg["time_centers"], torch.arange(4) / 4.0)
    assert (stg["time_log_scales"] == 0).all()
    assert (built_expert("moegs-ex4dgs").gauss_params["displacements"] == 0).all()
    ed3dgs: Any = built_expert("moegs-ed3dgs")
    assert (ed3dgs.gauss_params["embeddings"] == 0).all()
    assert (ed3dgs.time_offsets == 0).all()
    planes: Any = built_expert("moegs-4dgaussians")
    for level in planes.planes.levels:
        assert (level.time == 1).all()
        assert 0.1 <= level.space.amin() < level.space.amax() <= 0.5


def test_temporal_widths_start_as_published_for_other_data():
    width = all_methods["moegs-stg-technicolor"].pipeline.model.expert.initial_time_log_scale
    rows = built_expert("moegs-stg", initial_time_log_scale=width).gauss_params
    torch.testing.assert_close(rows["time_log_scales"], torch.full((4,), -2.0))


@pytest.mark.parametrize(
    ("method", "views"),
    [
        ("moegs-stg", 2),
        ("moegs-4dgaussians", 2),
        ("moegs-ex4dgs", 1),
        ("moegs-ed3dgs", 1),
        ("moegs-freetime", 1),
        ("moegs-tracked", 1),
    ],
)
def test_a_step_sees_as_many_images_as_published(method: str, views: int):
    recipe = all_methods[method].pipeline.model.recipe
    built = recipe.setup(expert=built_expert(method), budget=1.0, seed=0)
    assert built.views_per_step(5000) == views


EXTENT_GROUPS = {
    "moegs-stg": ("means", "motion"),
    "moegs-4dgaussians": ("means", "decoder", "planes"),
    # The release gives displacements no extent; here they are in its unit, see docs/defaults.md.
    "moegs-ex4dgs": ("means", "displacements", "dynamic_means"),
    # Networks of E-D3DGS put out multiples of the extent instead.
    "moegs-ed3dgs": ("means",),
    "moegs-freetime": ("means", "velocities"),
    "moegs-tracked": ("means", "dynamic_means"),
}


@pytest.mark.parametrize("method", EXTENT_GROUPS)
def test_rates_are_per_extent_where_published_so(method: str):
    recipe: Any = all_methods[method].pipeline.model.recipe
    assert recipe._target.extent_groups == EXTENT_GROUPS[method]
