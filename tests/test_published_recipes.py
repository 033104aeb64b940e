"""Published combinations as methods: they differ from their family as the papers' tables say."""

from typing import Any

import pytest
import yaml
from command_lines import parse
from method_settings import settings
from nerfstudio.configs.method_configs import all_descriptions, all_methods
from nerfstudio.data.dataparsers.dnerf_dataparser import DNeRFDataParserConfig
from tiny import TinyRuns, train_config

from moegs_ns.data.dataparsers.hypernerf import HyperNeRFDataParserConfig
from moegs_ns.data.dataparsers.iphone import IPhoneDataParserConfig
from moegs_ns.data.dataparsers.technicolor import TechnicolorDataParserConfig
from moegs_ns.engine.trainer import load_pipeline
from moegs_ns.runs.checkpoint import open_run

WHITE = (1.0, 1.0, 1.0)
PUBLISHED: dict[str, dict[str, Any]] = {
    "moegs-stg-n3v": {
        "expert.color": "full", "expert.head": "sigmoid",
        "recipe.densification.refine_stop_iter": 1100,
        "recipe.guided_sampling.start": 1600, "recipe.box_prune_step": 10000,
        "recipe.lowest_z": 4.5, "scales.lr": 1.5e-3,
    },
    "moegs-stg-lite": {"expert.color": "lite", "expert.initial_time_log_scale": -2.0},
    "moegs-stg-technicolor": {
        "expert.color": "full", "expert.initial_time_log_scale": -2.0,
        "recipe.guided_sampling.start": 1600, "recipe.box_prune_step": 10000,
    },
    "moegs-4dgaussians-n3v": {
        "recipe.densification.grow_grad2d": 2e-4,
        "expert.background": WHITE, "recipe.ssim_lambda": 0.0, "recipe.reset_every": None,
    },
    "moegs-4dgaussians-dnerf": {
        "recipe.densification.grow_grad2d": 2e-4,
        "expert.background": WHITE, "expert.channels": 32, "expert.width": 64,
        "expert.deform_opacity": False, "expert.deform_sh": False, "recipe.ssim_lambda": 0.0,
        "recipe.views": 1, "recipe.densification.refine_stop_iter": 15000,
        "recipe.weight_space_smoothness": 1e-4, "recipe.weight_time_smoothness": 1e-2,
        "decoder.final_ratio": 0.01, "planes.final_ratio": 0.01, "max_num_iterations": 23000,
        "num_random_points": 2000,
    },
    "moegs-4dgaussians-hypernerf": {
        "recipe.densification.grow_grad2d": 2e-4,
        "expert.background": WHITE, "expert.levels": (1, 2, 4), "expert.deform_opacity": False,
        "expert.deform_sh": False, "recipe.ssim_lambda": 0.0, "recipe.reset_every": None,
    },
    "moegs-4dgaussians-dycheck": {
        "recipe.densification.grow_grad2d": 2e-4,
        "expert.background": WHITE, "expert.levels": (1, 2, 4), "expert.time_resolution": 150,
        "expert.deform_opacity": False, "expert.deform_sh": False, "recipe.ssim_lambda": 0.0,
        "recipe.reset_every": None, "max_num_iterations": 63000,
    },
    "moegs-ex4dgs-n3v": {
        "expert.as_released": True, "recipe.as_released": True,
        "recipe.error_prune.max_fraction": 1.0, "recipe.densification.reference_pixels": None,
        "dynamic_means.final_ratio": 1.0,
    },
    "moegs-ex4dgs-technicolor": {
        "expert.time_padding": 3, "recipe.densification.grow_grad2d": 2.5e-4,
        "recipe.dynamic_grow_grad2d": 8e-5, "recipe.conversion.every": 3777,
        "recipe.weight_displacement": 2e-4, "dynamic_opacities.lr": 1e-4,
        "recipe.densification.reference_pixels": None,
        "dynamic_sh0.lr": 2.5e-4, "dynamic_shN.lr": 1.25e-5, "dynamic_opacity_centers.lr": 1e-3,
        "dynamic_opacity_log_widths.lr": 1e-3,
    },
    "moegs-ed3dgs-dnerf": {
        "expert.time_spread": 0.0, "expert.deform_opacity": False, "expert.deform_sh": False,
        "recipe.densification.refine_start_iter": 500, "recipe.densification.max_gaussians": 40000,
        "recipe.sampling.random_until": 10**9, "recipe.sampling.burst_steps": 0,
        "recipe.motion_steps": 0, "recipe.appearance_start": 0, "recipe.appearance_steps": 0,
        "recipe.weight_embedding": 0.1, "recipe.weight_time_smoothness": 1e-4,
        "time_offsets.lr": 0.0, "num_random_points": 2000,
    },
    "moegs-ed3dgs-technicolor": {
        "expert.time_spread": 0.0, "expert.deform_sh": False,
        "recipe.densification.refine_start_iter": 500,
        "recipe.densification.refine_stop_iter": 99900, "recipe.sampling.random_until": 60000,
        "recipe.motion_steps": 0, "recipe.appearance_start": 0, "recipe.appearance_steps": 0,
        "recipe.time_growth_steps": 0, "recipe.weight_embedding": 0.1,
        "decoders.lr": pytest.approx(8e-3), "time_grid.lr": pytest.approx(8e-3),
        "time_offsets.lr": 0.0, "means.max_steps": 100000, "decoders.max_steps": 100000,
        "time_grid.max_steps": 100000, "max_num_iterations": 100000,
    },
    "moegs-router-technicolor": {
        "router_weights.lr": 0.1, "router_time.lr": 0.01, "router_phi.lr": 0.01,
    },
}  # fmt: skip
"""What each method changes of the method of its family."""
EXPERTS = [name for name in PUBLISHED if "router" not in name]


def family_of(name: str) -> str:
    return "-".join(name.split("-")[:2])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_method_differs_from_its_family_in_the_published_numbers(name: str):
    own, usual = settings(name), settings(family_of(name))
    assert own.keys() == usual.keys()
    assert {key: value for key, value in own.items() if value != usual[key]} == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_method_is_typed_and_written(name: str):
    config = parse(name, "--budget", "0.1", "--data", "D", "n3v-data", "--frames", "0", "9")
    assert config.method_name == name
    assert yaml.load(yaml.dump(config), Loader=yaml.Loader) == config


@pytest.mark.parametrize("name", EXPERTS)
def test_a_published_expert_trains(name: str, tiny_runs: TinyRuns, tmp_path):
    run = open_run(train_config(all_methods[name], tiny_runs.scene, tmp_path, steps=4))
    assert run.checkpoint_path.name == "step-000000003.ckpt"
    pipeline = load_pipeline(run)
    camera, _ = pipeline.datamanager.eval_item(3)
    assert pipeline.model.get_outputs_for_camera(camera)["rgb"].isfinite().all()


def test_the_published_router_trains_at_its_rates(tiny_runs: TinyRuns, tmp_path):
    from copy import deepcopy
    from pathlib import Path

    moved = {}
    for name in ("moegs-router", "moegs-router-technicolor"):
        config = deepcopy(all_methods[name])
        config.pipeline.model.experts = tuple(map(Path, tiny_runs.experts))
        run = open_run(train_config(config, tiny_runs.scene, tmp_path, steps=2))
        weights = run.model_state()["mixture.router.weights.0.w"]
        moved[name] = float((weights - 0.9).abs().max())
    assert 0 < moved["moegs-router-technicolor"] < 0.5 * moved["moegs-router"]


def test_parsers_of_the_data_sets_come_with_the_methods():
    parsers = {name: all_methods[name].pipeline.datamanager.dataparser for name in EXPERTS}
    assert isinstance(parsers["moegs-4dgaussians-dnerf"], DNeRFDataParserConfig)
    assert isinstance(parsers["moegs-ed3dgs-dnerf"], DNeRFDataParserConfig)
    assert isinstance(parsers["moegs-4dgaussians-hypernerf"], HyperNeRFDataParserConfig)
    assert isinstance(parsers["moegs-4dgaussians-dycheck"], IPhoneDataParserConfig)
    technicolor = [parsers[name] for name in EXPERTS if name.endswith("-technicolor")]
    technicolor.append(all_methods["moegs-router-technicolor"].pipeline.datamanager.dataparser)
    assert len(technicolor) == 4
    assert all(isinstance(parser, TechnicolorDataParserConfig) for parser in technicolor)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_description_says_what_it_is(name: str):
    description = all_descriptions[name]
    assert description != all_descriptions[family_of(name)]
    data = {"n3v": "N3V", "dnerf": "D-NeRF", "hypernerf": "HyperNeRF", "dycheck": "DyCheck"}
    data |= {"technicolor": "Technicolor", "lite": "lite"}
    assert data[name.rpartition("-")[2]] in description
    assert description.startswith("Mixture: " if "router" in name else "Expert: ")


@pytest.mark.parametrize("name", ["moegs-stg-lite", "moegs-router-technicolor"])
def test_the_help_shows_the_description_and_the_changed_numbers(name: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        parse(name, "--help")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    changed = {"moegs-stg-lite": "(default: lite)", "moegs-router-technicolor": "(default: 0.1)"}
    assert changed[name] in text
