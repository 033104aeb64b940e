"""Growth by relocation: numbers, what is rendered, time and resets."""

from dataclasses import replace

import pytest
import torch
from densifiers import image_of, make_densifier
from ex4dgs_helpers import assert_consistent
from ex4dgs_helpers import build as build_ex4dgs
from recipe_runs import FAMILIES, SCENE
from toys import make_gaussians
from training_helpers import cloud, table

from moegs_ns.experts.ex4dgs.recipe import Ex4DGSRecipeConfig
from moegs_ns.training.densification import DensificationConfig, Densifier, LifeThresholdConfig
from moegs_ns.training.growth import GROWTH

CONFIG = DensificationConfig(growth="relocation", max_gaussians=103, refine_start_iter=0)
DEAD = 20
GROW = GROWTH["relocation"]


def densifier_of(count: int = 100, config: DensificationConfig = CONFIG) -> Densifier:
    """Gaussians of which the last ones show nothing."""
    gaussians = make_gaussians(torch.Generator().manual_seed(3), count, degree=0)
    gaussians.opacities[-DEAD:] = 1e-4
    return make_densifier(gaussians, config)


def test_all_show_something_and_the_image_stays():
    densifier = densifier_of()
    before = image_of(densifier)
    GROW.grow(densifier)
    opacities = densifier.parameters["opacities"].sigmoid()
    assert len(opacities) == 103 and bool((opacities > CONFIG.prune_opa * 0.99).all())
    assert float((image_of(densifier) - before).abs().mean() / before.mean()) < 0.03


def test_a_round_adds_a_twentieth_until_the_cap():
    config = replace(CONFIG, max_gaussians=109)
    densifier, counts = densifier_of(config=config), []
    for _ in range(3):
        GROW.grow(densifier)
        counts.append(densifier.parameters.num_rows)
    assert counts == [105, 109, 109]
    assert all(len(values) == 109 for values in densifier.statistics.values())
    assert all(
        densifier.optimizers[name].param_groups[0]["params"] == [value]
        for name, value in densifier.parameters.items()
    )


def test_what_is_reserved_counts_and_nothing_is_removed():
    densifier = densifier_of()
    densifier.reserved = 2
    GROW.grow(densifier)
    assert densifier.parameters.num_rows == 101
    densifier.parameters["opacities"].data[:5] = -20.0
    assert GROW.prune(densifier) == 0 and densifier.parameters.num_rows == 101


def test_where_nothing_shows_nothing_is_done():
    densifier = densifier_of(DEAD)
    ranges: list[slice] = []
    GROW.grow(densifier, ranges.append)
    assert densifier.parameters.num_rows == DEAD and not ranges


def test_listeners_hear_of_it_but_of_no_new_gaussian():
    """Spacetime Gaussians would draw a centre in time for one, and E-D3DGS finds neighbours."""
    ranges: list[slice] = []
    GROW.grow(densifier_of(), ranges.append)
    assert ranges == [slice(103, 103)]


@pytest.mark.parametrize("family", ["stg", "4dgaussians", "ed3dgs"])
def test_families_relocate_in_their_rounds(family: str):
    """Nothing is removed or reset, all parameters stay aligned, and times are those of targets."""
    torch.manual_seed(0)
    expert_config, default = FAMILIES[family]
    expert = replace(expert_config, near=0.0).setup(scene=SCENE, points=cloud(100))
    rounds = replace(
        default.densification, growth="relocation", max_gaussians=110, refine_start_iter=0,
        refine_every=1, refine_stop_iter=2,
    )  # fmt: skip
    recipe = replace(default, densification=rounds).setup(expert=expert, budget=1.0, seed=0)
    assert not recipe.resets_opacities and not recipe.allows_resets
    recipe.make_sampler(table(SCENE.num_frames))
    recipe.attach(
        {
            name: torch.optim.Adam(parameters, lr=1e-3)
            for name, parameters in recipe.parameter_groups().items()
        }
    )
    raw = expert.gauss_params
    raw["opacities"].data[:10] = -20.0
    raw["opacities"].data[10] = 5.0
    if family == "stg":
        raw["time_centers"].data[:] = torch.linspace(0.0, 0.3, 100)
    old = {name: value.detach().clone() for name, value in raw.items()}
    recipe.after_step(1)
    assert expert.num_gaussians == 105
    for name, value in raw.items():
        assert len(value) == 105, name
        if name not in ("opacities", "scales"):
            known = old[name].flatten(1) if old[name].ndim > 1 else old[name][:, None]
            added = value.detach()[100:].reshape(5, -1)
            assert all(bool((known == row).all(1).any()) for row in added), name
    assert bool((raw["opacities"].sigmoid() > 0.004).all())


def test_both_kinds_of_keyframe_experts_relocate_under_one_cap():
    rounds = replace(Ex4DGSRecipeConfig().densification, growth="relocation", max_gaussians=103)
    expert, recipe, optimizers = build_ex4dgs(60, 40, densification=rounds)
    static, dynamic = expert.gauss_params, expert.key_gauss_params
    for rows in (static, dynamic):
        rows["opacities"].data[:5] = -20.0
    keys = dynamic["means"].detach().clone()
    recipe.grow_and_prune()
    assert (expert.num_static, expert.num_dynamic) == (63, 40)
    assert_consistent(expert, recipe, optimizers)
    assert all(bool((rows["opacities"].sigmoid() > 0.004).all()) for rows in (static, dynamic))
    moved = dynamic["means"].detach()[:5]
    assert all(bool((keys == row).flatten(1).all(1).any()) for row in moved)
    assert not any(torch.equal(row, old) for row, old in zip(moved, keys[:5], strict=True))


def test_options_that_would_do_nothing_are_refused():
    expert_config, default = FAMILIES["stg"]
    expert = expert_config.setup(scene=SCENE, points=cloud(5))
    for more in ({"counted": "drawn"}, {"life_threshold": LifeThresholdConfig(share=0.5)}):
        config = replace(default, densification=replace(CONFIG, **more))
        with pytest.raises(ValueError, match="relocation reads no screen gradients"):
            config.setup(expert=expert, budget=1.0, seed=0)
