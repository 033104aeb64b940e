"""Methods and parsers as nerfstudio's command line sees them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_lines import parse
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.plugins.registry_dataparser import discover_dataparsers

ROOT = Path(__file__).parent.parent
METHODS = (
    "moegs-stg", "moegs-4dgaussians", "moegs-ex4dgs", "moegs-ed3dgs", "moegs-router",
    "moegs-pixel-router", "moegs-volume-router", "moegs-joint", "moegs-freetime",
    "moegs-tracked",
)  # fmt: skip
PARSERS = ("n3v-data", "panoptic-data")


def test_nerfstudio_finds_all_methods_and_parsers():
    assert set(METHODS) <= set(all_methods)
    assert set(PARSERS) <= set(discover_dataparsers()[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("parser", [*PARSERS, "dnerf-data"])
def test_every_method_parses_with_every_parser(method: str, parser: str):
    config = parse(method, "--budget", "0.2", "--val-cameras", "3", "7", "--data", "D", parser)
    assert config.method_name == method
    assert config.pipeline.model.budget == 0.2
    assert config.pipeline.datamanager.val_cameras == (3, 7)
    expected = type(discover_dataparsers()[0].get(parser, config.pipeline.datamanager.dataparser))
    assert isinstance(config.pipeline.datamanager.dataparser, expected)


@pytest.mark.parametrize("method", METHODS)
def test_configs_survive_their_file(method: str):
    config = parse(method, "--budget", "0.3", "--data", "D", "n3v-data")
    again = yaml.load(yaml.dump(config), Loader=yaml.Loader)
    assert again == config


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_group_has_an_optimiser(method: str):
    """Groups are known without building a model: families say them, methods configure them."""
    rows = {"means", "quats", "scales", "opacities", "sh0", "shN"}
    common = rows | {"camera_opt", "color_correction", "camera_clock"}
    motion = {"motion", "angular_rates", "time_centers", "time_log_scales"}
    dynamic = rows | {"opacity_centers", "opacity_log_widths"}
    groups = {
        "moegs-stg": common | motion | {"base_rgb", "view_features", "time_features", "decoder"},
        "moegs-4dgaussians": common | {"decoder", "planes"},
        "moegs-ex4dgs": common | {"displacements"} | {f"dynamic_{name}" for name in dynamic},
        "moegs-ed3dgs": common | {"embeddings", "decoders", "time_grid", "time_offsets"},
        "moegs-freetime": common
        | {"velocities", "time_centers", "durations", "gate_logits", "flat_halves"},
        "moegs-tracked": common | {f"dynamic_{name}" for name in rows},
        "moegs-router": {"router_weights", "router_time", "router_phi"},
        "moegs-pixel-router": {"router_phi"},
        "moegs-volume-router": {"router_weights", "router_time", "router_phi"},
        # Those of the experts are added when they are named.
        "moegs-joint": {"router_weights", "router_time", "router_phi"},
    }
    assert set(all_methods[method].optimizers) == groups[method]


def test_the_published_rates_stay_published():
    """Numbers of the fact sheets that a refactoring must not move."""
    stg, hexplane, ex4dgs, ed3dgs, router = (all_methods[name] for name in METHODS[:5])
    assert (stg.max_num_iterations, hexplane.max_num_iterations) == (30000, 17000)
    assert router.max_num_iterations == 5000
    rates = {name: group["optimizer"].lr for name, group in stg.optimizers.items()}
    assert rates == {
        "means": 1.6e-4, "quats": 1e-3, "scales": 5e-3, "opacities": 0.05, "sh0": 2.5e-3,
        "shN": 1.25e-4, "motion": 2.8e-4, "angular_rates": 1e-4, "time_centers": 1e-4,
        "time_log_scales": 0.03, "base_rgb": 2.5e-3, "view_features": 2.5e-3,
        "time_features": 1e-3, "decoder": 1e-4, "camera_opt": 1e-4, "color_correction": 1e-3,
        "camera_clock": 3e-3,
    }  # fmt: skip
    assert ex4dgs.max_num_iterations == 40000
    assert {group["optimizer"]._target.__name__ for group in ex4dgs.optimizers.values()} == {
        "FusedRAdam", "FusedAdam"
    }  # fmt: skip
    assert {name: group["optimizer"].lr for name, group in ex4dgs.optimizers.items()} == {
        "means": 1.6e-4, "displacements": 1e-4, "quats": 1e-5, "scales": 5e-3, "opacities": 0.05,
        "sh0": 2.5e-3, "shN": 1.25e-4, "dynamic_means": 1.6e-4, "dynamic_quats": 1e-3,
        "dynamic_scales": 5e-3, "dynamic_opacities": 0.01, "dynamic_sh0": 2.5e-3,
        "dynamic_shN": 1.25e-4, "dynamic_opacity_centers": 0.01,
        "dynamic_opacity_log_widths": 1e-4, "camera_opt": 1e-4, "color_correction": 1e-3,
        "camera_clock": 3e-3,
    }  # fmt: skip
    ratios = [ex4dgs.optimizers[n]["scheduler"].ratio(30000) for n in ("means", "dynamic_means")]
    assert ratios == pytest.approx([0.01, 0.1])
    assert ed3dgs.max_num_iterations == 80000
    # Rates of networks are published per unit of the scene's extent, here for an extent of 5.
    assert {name: group["optimizer"].lr for name, group in ed3dgs.optimizers.items()} == {
        "means": 1.6e-4, "quats": 1e-3, "scales": 5e-3, "opacities": 0.05, "sh0": 2.5e-3,
        "shN": 1.25e-4, "embeddings": 2.5e-3, "decoders": 8e-4, "time_grid": 8e-4,
        "time_offsets": 2e-5, "camera_opt": 1e-4, "color_correction": 1e-3,
        "camera_clock": 3e-3,
    }  # fmt: skip
    names = ("means", "decoders", "time_grid")
    ratios = [ed3dgs.optimizers[name]["scheduler"].ratio(80000) for name in names]
    assert ratios == pytest.approx([0.01, 0.1, 0.1])
    planes = hexplane.optimizers["planes"]
    assert planes["optimizer"].lr == 1.6e-3
    assert planes["scheduler"].ratio(3000 + 20000) == pytest.approx(0.1)
    assert router.optimizers["router_weights"]["optimizer"].lr == 0.5
    assert router.optimizers["router_phi"]["optimizer"].lr == 0.05


def test_methods_share_no_configuration():
    """Changing one method's datamanager must not change another's."""
    managers = [all_methods[name].pipeline.datamanager for name in METHODS]
    assert len({id(manager) for manager in managers}) == len(METHODS)
    assert len({id(manager.dataparser) for manager in managers}) == len(METHODS)


def test_experts_take_a_list_before_another_option():
    config = parse("moegs-router", "--experts", "A/config.yml", "B", "--data", "D", "n3v-data")
    assert config.pipeline.model.experts == (Path("A/config.yml"), Path("B"))


def test_a_mixture_is_pruned_by_short_options():
    config = parse(
        "moegs-router", "--router", "R/config.yml", "--prune-ratio", "0.55", "--prune-rounds", "3",
        "--prune-criterion", "opacity", "--data", "D", "n3v-data",
    )  # fmt: skip
    model = config.pipeline.model
    assert model.mixture_run == Path("R/config.yml")
    assert (model.prune.ratio, model.prune.rounds, model.prune.criterion) == (0.55, 3, "opacity")


def test_the_help_explains_experts():
    command = [sys.executable, "-W", "ignore", "-m", "nerfstudio.scripts.train", "moegs-router"]
    environment = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, check=True, env=environment
    )
    text = " ".join(done.stdout.replace("│", " ").split())
    assert "--experts" in text
    assert "What to mix, separated by spaces" in text and "such as stg or 4dgaussians" in text
    assert "--experts A/config.yml B/config.yml --data D n3v-data" in text


IDLE_OPTIONS = (
    "masks-on-gpu", "images-on-gpu", "eval-num-images-to-sample-from", "max-thread-workers",
    "eval-num-times-to-repeat-images", "eval-image-indices", "train-cameras-sampling-strategy",
    "train-cameras-sampling-seed", "fps-reset-every", "enable-collider", "collider-params",
    "eval-num-rays-per-chunk", "prompt", "loss-coefficients",
)  # fmt: skip
"""Options of nerfstudio that do nothing in our methods."""


@pytest.mark.parametrize("method", ["moegs-stg", "moegs-router", "moegs-joint"])
def test_the_help_hides_options_that_do_nothing(method: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        parse(method, "--help")
    text = capsys.readouterr().out
    assert "gpu-cache-gb" in text and "--pipeline.model.budget" in text
    assert [name for name in IDLE_OPTIONS if name in text] == []


def test_a_config_that_holds_such_options_is_still_read():
    """As those of older runs do, with nerfstudio's values."""
    config = parse("moegs-stg", "--data", "D", "n3v-data")
    config.pipeline.model.collider_params = {"near_plane": 2.0, "far_plane": 6.0}
    text = yaml.dump(config)
    assert yaml.load(text.replace("prompt: null", "prompt: a"), Loader=yaml.Loader).prompt == "a"
    assert yaml.load(text, Loader=yaml.Loader) == config
    older = "".join(line for line in text.splitlines(True) if "fps_reset_every" not in line)
    assert yaml.load(older, Loader=yaml.Loader).pipeline.datamanager.fps_reset_every == 100


@pytest.mark.slow
def test_entry_points_load_from_an_ordinary_installation(tmp_path: Path):
    """Not editable, with the checkout as working directory, as on a machine without network."""
    target = tmp_path / "site"
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps",
            "--no-build-isolation", "--target", str(target), str(ROOT),
        ],
        check=True,
    )  # fmt: skip
    code = (
        "import moegs_ns, nerfstudio.configs.method_configs as m\n"
        "from importlib.metadata import entry_points\n"
        f"assert moegs_ns.__file__.startswith({str(target)!r}), moegs_ns.__file__\n"
        "groups = ('nerfstudio.method_configs', 'nerfstudio.dataparser_configs')\n"
        "for group in groups:\n"
        "    for entry in entry_points(group=group): entry.load()\n"
        "assert 'moegs-router' in m.all_methods\n"
    )
    environment = os.environ | {"PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
