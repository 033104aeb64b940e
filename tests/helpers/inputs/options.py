"""Options of every command with numbers and words that make no sense."""

from inputs.case import Case

PHOTOS = "ns-train moegs-stg --data photos"
STARTS = "(training starts)"


def training(
    option: str, value: str, says: str = "expects", method: str = "moegs-stg", status: int = 1
) -> Case:
    """An option before the parser's name."""
    own = "--experts expert other " if "router" in method else ""
    needs = ("photos", "expert", "other") if own else ("photos",)
    command = f"ns-train {method} {own}--{option} {value} --data photos n3v-data"
    return Case(f"{method} --{option} {value}", command, says, status, needs=needs)


def parser(
    options: str, says: str, status: int = 1, name: str = "n3v-data", scene: str = "photos"
) -> Case:
    """Options behind the parser's name."""
    command = f"ns-train moegs-stg --data {scene} {name} {options}"
    return Case(f"{name} {options}", command, says, status, needs=(scene,))


RECIPE, DATA, MODEL = "pipeline.model.recipe", "pipeline.datamanager", "pipeline.model"
TRAININGS = [
    *(training("budget", value) for value in ("nan", "inf", "-inf", "0", "-1")),
    training("budget", "much", "budget", status=2),
    training("budget", "''", "budget", status=2),
    *(training("max-num-iterations", value) for value in ("0", "-5")),
    training("max-num-iterations", "1.5", "max-num-iterations", status=2),
    training("max-num-iterations", "1e9", "max-num-iterations", status=2),
    *(training("steps-per-save", value) for value in ("0", "-1")),
    training("steps-per-eval-image", "-1"),
    *(training("machine.seed", value) for value in ("-1", "4294967296")),
    training("machine.seed", "one", "seed", status=2),
    *(training("machine.num-devices", value, "") for value in ("0", "2", "-1")),
    training("machine.device-type", "toaster", "device-type", status=2),
    training("logging.steps-per-log", "-1"),
    *(training(f"{MODEL}.expert.near", value) for value in ("nan", "0", "-1", "inf")),
    *(training(f"{MODEL}.expert.sh-degree", value) for value in ("-1", "4", "9")),
    *(training(f"{RECIPE}.densification.max-gaussians", value) for value in ("0", "-3")),
    *(training(f"{RECIPE}.densification.refine-every", value) for value in ("0", "-3")),
    training(f"{RECIPE}.densification.prune-opa", "nan"),
    training(f"{RECIPE}.densification.grow-grad2d", "-1"),
    training(f"{RECIPE}.ssim-lambda", "nan"),
    training(f"{RECIPE}.ssim-lambda", "2", ""),
    training(f"{RECIPE}.reset-every", "0"),
    training(f"{RECIPE}.guided-sampling.error-quantile", "-0.1"),
    *(training(f"{DATA}.gpu-cache-gb", value) for value in ("-1", "nan", "inf")),
    training(f"{DATA}.num-random-points", "-1"),
    training(f"{DATA}.num-random-points", "0", STARTS, status=0),
    training(f"{DATA}.camera-res-scale-factor", "0"),
    training(f"{DATA}.val-cameras", "9", "val-cameras"),
    training(f"{DATA}.val-cameras", "1 1", "each camera once"),
    training(f"{DATA}.val-cameras", "1 2", ""),
    training(f"{DATA}.val-cameras", "-1", ""),
    training(f"{DATA}.val-cameras", "one", "val-cameras", status=2),
    training(f"{DATA}.frame-store-dir", "photos/poses_bounds.npy", "poses_bounds.npy"),
    training(f"{MODEL}.distillation.lam", "-1"),
    training(f"{MODEL}.distillation.teacher", "gone", "gone"),
    training(f"{MODEL}.distillation.teacher", "photos", "photos"),
    training(f"{MODEL}.honest.finish", "nan"),
    training(f"{MODEL}.honest.finish", "2", ""),
    training("optimizers.means.optimizer.lr", "nan"),
    training("optimizers.means.optimizer.lr", "-1", ""),
    training("timestamp", "a/b", ""),
    training("timestamp", "..", ""),
    training("timestamp", "''", ""),
    training("experiment-name", "../../x", ""),
    training("experiment-name", "'a b'", STARTS, status=0),
    training("output-dir", "photos/poses_bounds.npy", ""),
    training("output-dir", "/proc/x", ""),
    training("output-dir", "''", STARTS, status=0),
    training("load-dir", "gone", "gone"),
    training("load-dir", "photos", "photos"),
    training("load-checkpoint", "gone.ckpt", "gone.ckpt"),
    training("load-checkpoint", "photos", "photos"),
    training("load-config", "gone.yml", "gone.yml"),
    training("load-config", "photos/poses_bounds.npy", ""),
    training("viewer.websocket-port", "-1", ""),
    training("vis", "nothing", "vis", status=2),
    training(f"{MODEL}.temperature", "0", method="moegs-router"),
    training(f"{MODEL}.temperature", "nan", method="moegs-router"),
    training(f"{MODEL}.temperature", "-1", method="moegs-router"),
    training(f"{MODEL}.gates.uniform", "2", "", method="moegs-router"),
    training(f"{MODEL}.gates.blur", "nan", method="moegs-router"),
    training(f"{MODEL}.prune.ratio", "1", "", method="moegs-router"),
    training(f"{MODEL}.prune.ratio", "-0.5", "", method="moegs-router"),
    training(f"{MODEL}.prune.rounds", "0", "", method="moegs-router"),
    training(f"{MODEL}.router.hidden", "0 0", method="moegs-router"),
    training(f"{MODEL}.router.initial-weight", "nan", method="moegs-router"),
    training(f"{MODEL}.router.initial-weight", "1.5", "", method="moegs-router"),
    training(f"{MODEL}.stacking.budget", "0", method="moegs-router"),
    training(f"{MODEL}.expert-budget", "-1", method="moegs-router"),
]
PARSERS = [
    *(parser(f"--frames {value}", "frames expects") for value in ("3 1", "-1 2", "0 99", "9 12")),
    parser("--frames 2 2", STARTS, 0),
    parser("--frames 0", "frames", 2),
    parser("--frames 0.5 2", "frames", 2),
    *(parser(f"--fps {value}", "fps") for value in ("0", "-30", "nan", "inf")),
    *(parser(f"--downscale-factor {value}", "downscale-factor") for value in ("0", "-2")),
    parser("--downscale-factor 1000", "the shorter side of the images", 1),
    parser("--downscale-factor 2.5", "downscale-factor", 2),
    *(parser(f"--max-frames {value}", "max-frames expects") for value in ("0", "-1")),
    *(parser(f"--held-out-cameras {value}", "--held-out-cameras") for value in ("9", "-1", "0 0")),
    parser("--held-out-cameras 0 1 2", ""),
    *(parser(f"--exclude-cameras {value}", "--exclude-cameras") for value in ("9", "-1")),
    parser("--exclude-cameras 0 1 2", ""),
    parser("--exclude-cameras 0", ""),
    parser("--num-random-points -1", "num-random-points"),
    parser("--min-points -1", "min-points"),
    parser("--resize-filter magic", "resize-filter", 2),
    parser("--points-file ''", ""),
    parser("--frames 3 1", "--frames", name="panoptic-data", scene="dome"),
    parser("--frames 0 99", "--frames", name="panoptic-data", scene="dome"),
    parser("--held-out-cameras 99", "--held-out-cameras", name="panoptic-data", scene="dome"),
    parser("--exclude-cameras 99", "--exclude-cameras", name="panoptic-data", scene="dome"),
    parser("--fps nan", "fps", name="panoptic-data", scene="dome"),
    parser("", "", name="panoptic-data"),
    parser("", "", name="n3v-data", scene="dome"),
    parser("", "", name="dnerf-data"),
    parser("", "", name="nerfstudio-data"),
    parser("", "", name="hypernerf-data"),
    parser("", "", name="iphone-data"),
    parser("", "", name="nvidia-data"),
    parser("", "", name="technicolor-data"),
    parser("", "", name="frame-folders-data"),
    parser("", "", name="multipleview-data"),
    parser("", "", name="timed-transforms-data"),
    parser("", "", name="rig-data"),
    parser("", "", name="colmap"),
]
RECIPES = [
    Case(
        f"moegs train {words}",
        f"moegs train {words} --data photos --dry-run n3v-data",
        says,
        status,
        needs=("photos",),
    )
    for words, says, status in (
        ("", "got none; add --experts", 1),
        ("--experts nothing", "nothing", 1),
        ("--experts ''", "", 1),
        ("--experts router", "router", 1),
        ("--experts gone/config.yml", "gone/config.yml", 1),
        ("--experts photos", "photos", 1),
        ("--experts stg+nothing", "trained run", 1),
        ("--experts stg --at-once 0", "--at-once expects", 1),
        ("--experts stg --at-once -1", "--at-once expects", 1),
        ("--experts stg --expert-budget -1", "budget expects", 1),
        ("--experts stg --expert-budget nan", "budget expects", 1),
        ("--experts stg --expert-budget 0", "budget expects", 1),
        ("--experts stg --router-budget 0", "budget expects", 1),
        ("--experts stg --router-budget inf", "budget expects", 1),
        ("--experts stg --seed -1", "seed expects", 1),
        ("--experts stg --seed 1.5", "seed", 2),
        ("--experts stg --val-cameras 77", "val-cameras", 1),
        ("--experts stg --router nothing", "--router expects", 1),
        ("--experts stg --router stg", "--router expects", 1),
        ("--experts stg --router ''", "--router expects", 1),
        ("--experts stg '--train-options=--steps-per-save 0'", "--steps-per-save expects", 1),
        ("--experts stg '--train-options=\"'", "", 1),
        (
            "--experts stg '--router-options=--pipeline.model.temperature 0'",
            "temperature expects",
            1,
        ),
        ("--experts stg --expert-options ex4dgs:", "--expert-options", 1),
        ("--experts stg --output table.txt", "", 1),
        ("--experts stg --output-dir photos/poses_bounds.npy", "", 1),
        ("--experts stg --experiment-name ../../x", "", 1),
        ("--experts stg --experiment-name ''", "--experiment-name expects", 1),
        ("--experts stg stg", "Plan", 0),
    )
]
OTHERS = [
    Case(words, words, says, status, needs=needs)
    for words, says, status, needs in (
        ("moegs", "", 2, ()),
        ("moegs nothing", "nothing", 2, ()),
        ("moegs report", "got none; name their config.yml", 1, ()),
        ("moegs report expert --output table.txt", ".json", 1, ("expert",)),
        ("moegs report gone", "gone", 1, ()),
        *((f"moegs fuse router --output x.ply --time {value}", "--time", 1, ("router",)) for value in ("-0.1", "1.5", "nan", "inf")),
        *((f"moegs fuse router --output x.ply --max-views {value}", "--max-views expects", 1, ("router",)) for value in ("0", "-1")),
        ("moegs fuse router --output x.obj", ".ply", 1, ("router",)),
        ("moegs fuse router --output ''", ".ply", 1, ("router",)),
        ("moegs fuse expert --output x.ply --keep", "", 1, ("expert",)),
        *((f"moegs analyse expert --output out --{name} {value}", f"--{name} expects", 1, ("expert",))
          for name in ("trajectories", "times", "images", "depth-frames", "depth-cameras", "fuse-views") for value in ("0", "-1")),
        ("moegs analyse expert --output out --seed -1", "seed", 1, ("expert",)),
        *((f"moegs render --load-config expert/config.yml --fps {value}", "--fps expects", 1, ("expert",)) for value in ("0", "-1", "nan", "inf")),
        *((f"moegs render --load-config expert/config.yml --seconds {value}", "--seconds expects", 1, ("expert",)) for value in ("0", "-1", "nan")),
        ("moegs render --load-config expert/config.yml --seconds 1e12", "", 1, ("expert",)),
        *((f"moegs render --load-config expert/config.yml --seconds 0.1 path:fixed-camera --path.camera {value}", "--path.camera", 1, ("expert",)) for value in ("-1", "99")),
        *((f"moegs render --load-config expert/config.yml --seconds 0.1 path:frozen-time --path.time {value}", "--path.time", 1, ("expert",)) for value in ("-0.1", "2", "nan")),
        *((f"moegs render --load-config expert/config.yml --seconds 0.1 path:orbit --path.share {value}", "--path.share", 1, ("expert",)) for value in ("-1", "nan", "inf")),
        ("moegs render --load-config expert/config.yml --seconds 0.1 path:spline", "", 2, ("expert",)),
        ("moegs data clean --unused-days -1", "--unused-days expects", 1, ()),
        ("moegs data clean --unused-days nan", "--unused-days expects", 1, ()),
        ("moegs data clean photos --names nothing", "--names expects", 1, ("photos",)),
        ("moegs data list gone", "", 1, ()),
        ("moegs data list photos/poses_bounds.npy", "", 1, ("photos",)),
        *((f"moegs demo --output demo --{name} {value}", f"--{name} expects", 1, ()) for name, value in (("stg-budget", "nan"), ("hexplane-budget", "0"), ("router-budget", "-1"), ("max-gaussians", "0"), ("seeds", "0 -1"))),
        ("moegs demo --output demo --seeds", "", 1, ()),
        *((f"moegs prepare points --data photos {words} n3v-data", says, 1, ("photos",)) for words, says in (
            ("--every -1", "--every expects"), ("--max-points 0", "--max-points expects"), ("--output points.txt", ".npz"), ("--val-cameras 9", "val-cameras"), ("--val-cameras 1 2", ""), ("--triangulation.max-error nan", ""))),
        ("moegs prepare points --data dnerf dnerf-data", "", 1, ("dnerf",)),
        ("moegs prepare points --data gone n3v-data", "gone", 1, ()),
        ("moegs prepare poses --data photos --colmap gone --overwrite", "gone", 1, ("photos",)),
        ("moegs prepare poses --data photos --colmap photos --overwrite", "photos", 1, ("photos",)),
        ("moegs prepare poses --data photos --colmap gone", "exist already; add --overwrite", 1, ("photos",)),
        ("moegs prepare rig", "", 1, ()),
        ("moegs prepare rig gone.mp4", "gone.mp4", 1, ()),
        ("moegs prepare rig videos/cam00.mp4 videos/cam00.mp4", "", 1, ("videos",)),
        ("moegs prepare rig videos/cam00.mp4 videos/cam01.mp4 --start cam00=x", "--start", 1, ("videos",)),
        ("moegs prepare rig videos/cam00.mp4 videos/cam01.mp4 --start cam99=1", "cam99", 1, ("videos",)),
        ("moegs prepare rig videos/cam00.mp4 videos/cam01.mp4 --start cam00=-1", "", 1, ("videos",)),
        ("moegs prepare rig videos/cam00.mp4 videos/cam01.mp4 --start cam00=99", "", 1, ("videos",)),
        ("moegs prepare rig videos/cam00.mp4 --fps nan", "fps", 1, ("videos",)),
        ("moegs prepare rig videos/cam00.mp4 --fps 0", "fps", 1, ("videos",)),
        ("moegs prepare rig videos/poses_bounds.npy", "poses_bounds.npy", 1, ("videos",)),
        ("moegs prepare rig videos", "", 1, ("videos",)),
        ("moegs prepare calibrate --data videos --from videos/poses_bounds.npy", "rig.json", 1, ("videos",)),
    )
]  # fmt: skip
CASES = [*TRAININGS, *PARSERS, *RECIPES, *OTHERS]
