"""What is trained to choose how Gaussians grow and what keeps them from fitting training cameras
alone: variants of methods on validation cameras of several scenes, by `benchmarks.experiments`."""

from typing import Any

from moegs_ns.method_configs.shared import N3V_PIXELS

from benchmarks.options import COLORS, ED3D, EX4D, FOURD, FREE, STG, VAL_CAMERAS, Options
from benchmarks.quality.validation import Validation
from benchmarks.runner import Experiment, Step, mps

RECIPE = "--pipeline.model.recipe"
DENSIFICATION = f"{RECIPE}.densification"
Scenes = tuple[tuple[dict[str, Any], tuple[int, ...], str], ...]
"""Scenes with their validation cameras and options of all their trainings."""


def _recorded(o: Options) -> Scenes:
    return (o.room(), (5, 7), ""), (o.basketball(49), VAL_CAMERAS, COLORS)


def _all_scenes(o: Options) -> Scenes:
    return *_recorded(o), (o.demo(), (3, 6), "")


def _on_scenes(about: str, name: str, variants: tuple[str, ...], scenes: Scenes) -> Experiment:
    """Two seeds of all variants on the validation cameras of each scene."""
    chains = tuple(
        (
            Validation(
                name=name, val_cameras=cameras, seeds=(0, 1), at_once=5, **scene,
                train_options=more, variants=variants,
            ),
        )
        for scene, cameras, more in scenes
    )  # fmt: skip
    return Experiment(about, (Step(chains, around=mps),))


def growth_experiments(o: Options) -> dict[str, Experiment]:
    """Those of this file by name."""
    return {
        "growth": growth(o), "short_lives": short_lives(o), "generalisation": generalisation(o),
    }  # fmt: skip


def growth(o: Options) -> Experiment:
    """Thresholds of refinement, as they are and growing in small images, and resets of opacity, on
    validation cameras of two scenes."""
    published, scaled = (
        f"{DENSIFICATION}.reference-pixels {pixels}" for pixels in (None, N3V_PIXELS)
    )
    low = f"{DENSIFICATION}.grow-grad2d 2e-4"
    variants = [
        f"{name}{budget}: {method} --budget {budget} {options}"
        for budget in (0.15, 0.5)
        for name, method, options in (
            ("ex4dgs-published-", EX4D, published), ("ex4dgs-scaled-", EX4D, scaled),
            ("stg-published-", STG, published), ("stg-scaled-", STG, scaled),
            ("4dgaussians-", FOURD, ""), ("4dgaussians-scaled-", FOURD, f"{low} {scaled}"),
            ("4dgaussians-no-resets-", FOURD, f"{RECIPE}.reset-every None"),
            ("ed3dgs-published-", ED3D, published), ("ed3dgs-scaled-", ED3D, scaled),
        )
    ]  # fmt: skip
    about = "when Gaussians are refined in small images, on validation cameras of two scenes"
    return _on_scenes(about, "validation_growth", tuple(variants), _recorded(o))


def short_lives(o: Options) -> Experiment:
    """Which views count for growth, and thresholds by the length of lives, at equal caps.
    FreeTimeGS does not grow; it moves what is dead by the same statistics."""
    weighted = f"{DENSIFICATION}.counted by-visibility"
    counted = {
        "contained": "", "drawn": f"{DENSIFICATION}.counted drawn", "by-visibility": weighted,
    }  # fmt: skip
    grown = {
        "drawn-5-views": f"{counted['drawn']} {DENSIFICATION}.min-observations 5",
        "by-visibility-5-views": f"{weighted} {DENSIFICATION}.min-observations 5",
        "lower-threshold": f"{DENSIFICATION}.life-threshold.share 0.75",
        "by-visibility-lower-threshold": f"{weighted} {DENSIFICATION}.life-threshold.share 0.75",
    }
    variants = tuple(
        f"{method.removeprefix('moegs-')}-{name}: {method} --budget 0.15 "
        f"{DENSIFICATION}.max-gaussians 60000 {options}"
        for method, chosen in ((STG, counted | grown), (EX4D, counted | grown), (FREE, counted))
        for name, options in chosen.items()
    )
    about = "which views count for the growth of short lives, on validation cameras of three scenes"
    return _on_scenes(about, "validation_short_lives", variants, _all_scenes(o))


def generalisation(o: Options) -> Experiment:
    """What other papers keep from fitting the training cameras alone, one at a time, then together.
    Steps of more images are fewer, so that all see as many."""
    degree = "--pipeline.model.expert.sh-degree"
    decay, dropout = f"{RECIPE}.opacity-decay.factor", f"{RECIPE}.dropout.fraction"
    penalties = f"{RECIPE}.weight-opacity 0.01 {RECIPE}.weight-scale 0.01"
    cameras = f"{RECIPE}.cameras-per-time"
    options = {"growth": "relocation", "max-gaussians": 60_000, "refine-stop-iter": 15_000}
    relocation = " ".join(f"{DENSIFICATION}.{name} {value}" for name, value in options.items())
    chosen = {
        "plain": "",
        **{f"sh-{k}": f"{degree} {k}" for k in (0, 1, 2)},
        "decay-998": f"{decay} 0.998", "decay-9995": f"{decay} 0.9995",
        "dropout-5": f"{dropout} 0.05", "dropout-10": f"{dropout} 0.1",
        "penalties": penalties,
        "relocation": relocation, "relocation-penalties": f"{relocation} {penalties}",
        "together": f"{degree} 1 {decay} 0.9995 {dropout} 0.05 {penalties}",
    }  # fmt: skip
    variants = [
        f"{method.removeprefix('moegs-')}-{name}: {method} --budget 0.15 {options}"
        for method in (STG, FOURD)
        for name, options in chosen.items()
    ]
    # Both have two images a step by default.
    variants += [
        f"{method.removeprefix('moegs-')}-{count}-cameras: {method} --budget {budget} "
        f"{cameras} {count}"
        for method in (STG, FOURD)
        for count, budget in ((2, 0.15), (4, 0.075), (8, 0.0375))
    ]
    about = (
        "what may keep from fitting training cameras alone, on those of validation, three scenes"
    )
    return _on_scenes(about, "validation_generalisation", tuple(variants), _all_scenes(o))
