"""Numbers that make no sense are refused before anything is trained, printed or written."""

import json
import math
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import drift_family
import pytest
from nerfstudio.configs.method_configs import all_methods
from training_helpers import TEMPLATE

from moegs_ns.data.camera_paths import FixedCamera, FrozenTime, Orbit
from moegs_ns.launch import plan
from moegs_ns.launch.option_limits import check_numbers
from moegs_ns.scripts.demo import Demo
from moegs_ns.scripts.render import Render

METHODS = [name for name in all_methods if name.startswith("moegs-")]
RECIPE, DATA = "pipeline.model.recipe", "pipeline.datamanager"
NONSENSE = [
    ("moegs-stg", f"{RECIPE}.densification.refine_every", 0, "at least 1"),
    ("moegs-stg", f"{RECIPE}.densification.refine_every", -3, "at least 1"),
    ("moegs-stg", f"{RECIPE}.reset_every", 0, "at least 1"),
    ("moegs-stg", f"{RECIPE}.cameras_per_time", 0, "at least 1"),
    ("moegs-stg", f"{RECIPE}.dropout.fraction", 1.5, "a share from 0 to 1"),
    ("moegs-ex4dgs", f"{RECIPE}.growth.every", 0, "at least 1"),
    ("moegs-ex4dgs", f"{RECIPE}.error_prune.every_rounds", 0, "at least 1"),
    ("moegs-4dgaussians", f"{RECIPE}.sh_degree_every", 0, "at least 1"),
    ("moegs-stg", "pipeline.model.expert.sh_degree", 9, "harmonics from 0 to 3"),
    ("moegs-ed3dgs", "pipeline.model.expert.sh_degree", -1, "harmonics from 0 to 3"),
    ("moegs-stg", f"{RECIPE}.densification.max_gaussians", 0, "at least 1"),
    ("moegs-ed3dgs", f"{RECIPE}.densification.max_gaussians", -5, "at least 1"),
    ("moegs-stg", f"{DATA}.gpu_cache_gb", -1.0, "at least 0"),
    ("moegs-stg", f"{DATA}.gpu_cache_gb", math.nan, "a finite number"),
    ("moegs-stg", "pipeline.model.distillation.cache_gb", -0.5, "at least 0"),
    ("moegs-stg", "max_num_iterations", 0, "at least 1"),
    ("moegs-router", "max_num_iterations", -7, "at least 1"),
    ("moegs-stg", "steps_per_save", 0, "at least 1"),
    ("moegs-stg", "steps_per_eval_image", -1, "at least 0"),
    ("moegs-stg", "machine.seed", -1, "from 0 to 4294967295"),
    ("moegs-stg", "machine.seed", 2**32, "from 0 to 4294967295"),
    ("moegs-stg", "pipeline.model.expert.near", math.nan, "a finite number"),
    ("moegs-stg", "pipeline.model.expert.near", 0.0, "above 0"),
    ("moegs-stg", f"{RECIPE}.weight_opacity", -0.1, "at least 0"),
    ("moegs-4dgaussians", "pipeline.model.expert.levels", (1, 0), "at least 1"),
    ("moegs-router", "pipeline.model.expert_budget", math.inf, "a finite number"),
    ("drift", f"{RECIPE}.densification.max_gaussians", 0, "at least 1"),
]


def method(name: str) -> Any:
    config: Any = deepcopy(drift_family.method.config if name == "drift" else all_methods[name])
    if "router" in name:
        config.pipeline.model.experts = (Path("stg"), Path("4dgaussians"))
    elif name == "moegs-joint":
        config.pipeline.model.experts = (Path("stg"),)
    return config


def with_value(config: Any, path: str, value: Any) -> Any:
    *owners, name = path.split(".")
    setattr(reduce(getattr, owners, config), name, value)
    return config


@pytest.mark.parametrize(("name", "path", "value", "expected"), NONSENSE)
def test_nonsense_is_refused(name: str, path: str, value: Any, expected: str):
    config = with_value(method(name), path, value)
    option = "--" + path.replace("_", "-")
    shown = value[1] if isinstance(value, tuple) else value
    with pytest.raises(ValueError, match=f"^{option} expects .*{expected}, got {shown}; leave it"):
        config.set_timestamp()


@pytest.mark.parametrize("budget", [0.0, -1.0, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["moegs-stg", "moegs-router", "moegs-joint"])
def test_budgets(budget: float, name: str):
    config = with_value(method(name), "pipeline.model.budget", budget)
    with pytest.raises(ValueError, match=f"^--budget expects a fraction .*, got {budget}"):
        config.set_timestamp()


def test_rates(tmp_path: Path):
    config = method("moegs-stg")
    config.optimizers["means"]["optimizer"].lr = math.nan
    with pytest.raises(ValueError, match=r"^--optimizers\.means\.optimizer\.lr expects a finite"):
        config.set_timestamp()


@pytest.mark.parametrize("name", [*METHODS, "drift"])
def test_every_method_is_within_the_limits(name: str):
    """The published numbers; joint training takes its steps from the experts."""
    config = method(name)
    config.set_timestamp()
    check_numbers(config)


@dataclass
class TheirConfig:
    shift: float = 0.0
    refine_every: int = 10


def test_numbers_of_other_packages_may_be_negative():
    """Unless their names say more."""
    check_numbers(TheirConfig(shift=-1.0))
    with pytest.raises(ValueError, match="--refine-every expects at least 1, got 0"):
        check_numbers(TheirConfig(refine_every=0))
    with pytest.raises(ValueError, match="--shift expects a finite number, got nan"):
        check_numbers(TheirConfig(shift=math.nan))


def test_trainings_are_refused_when_they_are_planned(tmp_path: Path):
    """Before any of them begins: those of `moegs train` are planned first."""
    for options, expected in [
        ({"budget": -1.0}, "--pipeline.model.budget expects a number above 0"),
        ({"seed": -4}, "--machine.seed expects a number from 0"),
        ({"options": ("--steps-per-save", "0")}, "--steps-per-save expects at least 1"),
    ]:
        job = replace(TEMPLATE, **{"output_dir": tmp_path, "options": ()} | options)
        with pytest.raises(ValueError, match=expected):
            plan.planned(job)


@pytest.mark.parametrize(
    ("option", "value"),
    [("router_budget", -1.0), ("stg_budget", math.nan), ("max_gaussians", 0), ("seeds", (0, -1))],
)
def test_the_demo_looks_at_all_its_numbers_first(option: str, value: Any, tmp_path: Path):
    demo = Demo(**{"output_dir": tmp_path / "demo", option: value})
    with pytest.raises(ValueError, match=f"--{option.replace('_', '-')} expects"):
        demo.main()
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 0.0}, {"fps": math.inf}, {"seconds": -1.0}, {"seconds": 0.0},
        {"path": FixedCamera(-1)}, {"path": FrozenTime(time=math.nan)}, {"path": Orbit(share=-1.0)},
    ],
)  # fmt: skip
def test_videos_of_no_length(options: dict[str, Any], tmp_path: Path):
    with pytest.raises(ValueError, match=r"^--[a-z.]+ expects"):
        Render(tmp_path / "config.yml", **options).main()


def test_broken_records_of_neighbours_are_passed_over(tmp_path: Path, capsys):
    """The estimate is made of those that tell something."""
    job = replace(TEMPLATE, output_dir=tmp_path)
    whole = {"device": "cpu", "seconds": 8.0, "steps": 4}
    records = [
        "", "{", "[]", "[" * 100_000, '{"seconds": 1}', json.dumps(whole | {"steps": 0}),
        json.dumps(whole | {"seconds": None}), json.dumps(whole | {"seconds": math.nan}),
        json.dumps(whole),
    ]  # fmt: skip
    for number, text in enumerate(records):
        folder = tmp_path / job.experiment / job.method / f"seed-{number}"
        folder.mkdir(parents=True)
        (folder / "training.json").write_text(text)
    (tmp_path / job.experiment / job.method / "seed-0" / "training.json").write_bytes(b"\xff\xfe")
    speed = plan.known_speed(job)
    assert speed is not None and speed.seconds_per_step == 2.0
    assert speed.source == "1 earlier runs of this experiment"
    printed = capsys.readouterr().out
    assert printed.count("Passed over for the estimate") == 8 and "seed-0/training.json" in printed
