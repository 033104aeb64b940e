"""Which trainings tables need, and that they share them."""

from collections import Counter

import pytest
from nerfstudio.configs.method_configs import all_methods
from paper_runs import jobs_of, study, table, write_run

from moegs_ns.launch.executors import LocalExecutor, say_nothing
from moegs_ns.launch.plan import parse
from moegs_ns.models.stacking import WITHOUT
from moegs_ns.paper import running
from moegs_ns.paper.running import fallbacks, train_all
from moegs_ns.paper.tables import TABLES, tables_named
from moegs_ns.paper.trainings import CAP, Recipe, Trainings


def methods(*numbers: int | str, **settings) -> Counter[str]:
    return Counter(job.method for job, _ in jobs_of(*numbers, about=study(**settings)))


@pytest.mark.parametrize(
    ("number", "experts", "others"),
    [
        (1, "ex4dgs stg ed3dgs 4dgaussians", {"moegs-router": 3}),
        (2, "ex4dgs stg ed3dgs 4dgaussians", {"moegs-router": 1}),
        (3, "ex4dgs stg", {"moegs-router": 3}),
        (4, "ex4dgs stg ed3dgs",
         {"moegs-router": 1, "moegs-pixel-router": 1, "moegs-volume-router": 1}),
        (5, "ex4dgs stg ed3dgs", {"moegs-router": 2}),
        (8, "ex4dgs stg ed3dgs 4dgaussians", {"moegs-router": 1}),
        (10, "4dgaussians ed3dgs", {"moegs-router": 1}),
    ],
)  # fmt: skip
def test_a_table_trains_its_experts_and_its_mixtures(number: int, experts: str, others: dict):
    expected = {f"moegs-{name}": 1 for name in experts.split()} | others
    assert methods(number) == expected


def test_experts_of_table_6_are_trained_for_four_shares():
    jobs = [job for job, _ in jobs_of(6, about=study(budget=0.5))]
    budgets = {job.budget for job in jobs if job.method == "moegs-stg"}
    assert budgets == {0.5, 0.25, 0.1, 0.05}
    assert {job.method for job in jobs} == {
        "moegs-ed3dgs", "moegs-stg", "moegs-4dgaussians", "moegs-router"
    }  # fmt: skip


def test_table_12_has_five_seeds_unless_others_are_asked_for():
    assert methods(12) == dict.fromkeys(
        ("moegs-ed3dgs", "moegs-ex4dgs", "moegs-4dgaussians", "moegs-router"), 5
    )
    seeds = {job.seed for job, _ in jobs_of(12, about=study(seeds=(7,)))}
    assert seeds == {7}


def test_students_are_of_every_family_and_plain_ones_are_the_experts():
    assert methods(7) == {f"moegs-{n}": 2 for n in ("ex4dgs", "stg", "ed3dgs")} | {
        "moegs-router": 1
    }
    assert methods(13)["moegs-ed3dgs"] == 3
    taught = [job for job, _ in jobs_of(11, about=study()) if "--teacher" in job.options]
    assert len(taught) == 6
    weightings = Counter("unweighted" in job.options for job in taught)
    assert weightings == {True: 3, False: 3}


def test_tables_share_the_trainings_that_they_have_in_common():
    shared = dict(jobs_of(1, 4, 8, 7, about=study()))
    experts = {job.method: numbers for job, numbers in shared.items() if not job.options}
    assert experts["moegs-stg"] == ["1", "4", "8", "7"]
    assert experts["moegs-4dgaussians"] == ["1", "8"]
    routers = [numbers for job, numbers in shared.items() if job.method == "moegs-router"]
    assert sorted(routers) == [["1"], ["1", "4", "7"], ["1", "8"]]


def test_joint_training_shares_the_experts_of_the_two_stages():
    shared = dict(jobs_of(1, "joint", about=study()))
    joint = next(job for job in shared if job.method == "moegs-joint")
    assert shared.pop(joint) == ["joint"] and joint.budget == study().budget
    own = [job.method for job, names in shared.items() if "joint" in names]
    assert own == ["moegs-ex4dgs", "moegs-stg", "moegs-ed3dgs", "moegs-router"]
    *experts, router = (job for job, names in shared.items() if "joint" in names)
    assert all("1" in shared[job] for job in experts)
    # Its gates stay as they are trained, as those of the joint training do.
    assert shared[router] == ["joint"] and router.options[:2] == WITHOUT


@pytest.mark.parametrize(("recipe", "expected"), [("default", "auto"), ("published", "none")])
def test_gates_are_corrected_by_the_default_recipe_alone(recipe: Recipe, expected: str):
    jobs = [job for job, _ in jobs_of(1, about=study(recipe=recipe))]
    job = next(job for job in jobs if "--experts" in job.options)
    assert parse(job.args()).pipeline.model.stacking.cameras == expected


def test_experts_that_are_trained_jointly_have_the_steps_of_the_longest_and_their_own_options():
    own = {"moegs-stg": ("--pipeline.model.recipe.densification.max-gaussians", "50")}
    about = study(own_options=own, set_name="n2", router_budget=0.5)
    job = next(j for j, _ in jobs_of("joint", about=about) if j.method == "moegs-joint")
    config = parse(job.args())
    lengths = [all_methods[name].max_num_iterations for name in ("moegs-ex4dgs", "moegs-stg")]
    assert config.max_num_iterations == max(lengths) > min(lengths)
    assert config.pipeline.model.budget == about.budget
    ex4dgs, stg = config.pipeline.model.method_configs()
    assert stg.pipeline.model.recipe.densification.max_gaussians == 50
    assert ex4dgs.pipeline.model.recipe.densification.max_gaussians != 50


@pytest.mark.parametrize("option", ["--honest-cameras", "--honest-cameras=auto"])
def test_joint_training_refuses_honest_cameras_before_anything_is_trained(option: str):
    about = study(options=(option, "auto"))
    with pytest.raises(ValueError, match=r"joint expects .* but --train-options has --honest-cam"):
        table("joint").check(about)
    table(1).check(about)
    table("joint").check(study(options=("--steps-per-save", "100")))


def test_published_variants_are_trained_jointly_too():
    about = study(recipe="published", own_options={"moegs-stg": ("--a", "b c")}, set_name="n2")
    job = next(j for j, _ in jobs_of("joint", about=about) if j.method == "moegs-joint")
    assert job.options[:3] == ("--experts", "moegs-ex4dgs-n3v", "moegs-stg-n3v")
    assert job.options[-2:] == ("--expert-options", "moegs-stg-n3v: --a 'b c'")


def test_options_of_experts_reach_students_and_no_router():
    own = {"moegs-stg": ("--a", "1"), "moegs-ex4dgs": ("--b", "2")}
    jobs = [job for job, _ in jobs_of(7, about=study(own_options=own))]
    for job in jobs:
        options = own.get(job.method, ())
        assert job.options[len(job.options) - len(options) :] == options
        assert ("--a" in job.options) == (job.method == "moegs-stg")
    assert Counter("--a" in job.options for job in jobs)[True] == 2


def test_options_of_experts_are_those_of_their_published_variants_too():
    about = study(own_options={"moegs-stg": ("--a", "1")}, recipe="published")
    found = {job.method for job, _ in jobs_of(1, about=about) if "--a" in job.options}
    assert found == {"moegs-stg-n3v"}


def test_scenes_and_seeds_have_trainings_of_their_own():
    jobs = [job for job, _ in jobs_of(10, about=study("a", "b", seeds=(0, 1)))]
    assert len(jobs) == 3 * 4 == len({job.folder for job in jobs})
    assert {job.label for job in jobs} >= {
        "moegs-router on a (seed 0)",
        "moegs-ed3dgs on b (seed 1)",
    }


def test_a_set_or_experts_take_the_place_of_those_of_the_paper():
    assert methods(1, set_name="n2") == {"moegs-ex4dgs": 1, "moegs-stg": 1, "moegs-router": 1}
    assert set(methods(12, experts=("stg", "freetime"))) == {
        "moegs-stg", "moegs-freetime", "moegs-router"
    }  # fmt: skip


def test_a_student_needs_its_family_in_the_teacher():
    with pytest.raises(
        ValueError, match="Table 13 expects ed3dgs among the experts of the teacher"
    ):
        table(13).check(study(set_name="n2"))
    for each in TABLES:
        each.check(study())


def test_students_get_no_more_gaussians_than_the_plain_one(tmp_path):
    about = study(output_dir=tmp_path)
    trainings = Trainings(about, "Technicolor", about.scenes[0], 0)
    teacher = trainings.mixture(trainings.experts(("stg", "ex4dgs")))
    assert CAP not in trainings.student("stg", teacher, "unweighted").options
    write_run(trainings.expert("stg"), 20.0)
    options = trainings.student("stg", teacher, "unweighted").options
    assert options[options.index(CAP) + 1] == "1234"
    assert CAP not in trainings.student("stg", teacher, "ground-truth").options


def test_published_recipes_are_those_of_the_tables_data_set():
    about = study(recipe="published")
    assert {job.method for job, _ in jobs_of(3, about=about)} == {
        "moegs-ex4dgs-n3v", "moegs-stg-n3v", "moegs-router"
    }  # fmt: skip
    assert "moegs-router-technicolor" in {job.method for job, _ in jobs_of(2, about=about)}
    (text,) = fallbacks(table(10), about)
    assert "HyperNeRF was published of moegs-ed3dgs, moegs-router" in text
    pruned = [job for job, _ in jobs_of(3, about=about) if "--prune-ratio" in job.options]
    assert all("gate-gradient" in job.options for job in pruned)
    assert {job.options[job.options.index("--prune-ratio") + 1] for job in pruned} == {
        "0.55", "0.75"
    }  # fmt: skip


@pytest.mark.parametrize("names", [(), ("14",), ("1", "figure")])
def test_only_tables_are_named(names: tuple[str, ...]):
    with pytest.raises(ValueError, match="numbers of tables from 1 to 13, joint, or all"):
        tables_named(names)


def test_tables_come_in_the_order_of_the_paper():
    assert [each.number for each in tables_named(("12", "2"))] == [2, 12]
    assert [each.number for each in tables_named(("all",))] == [*range(1, 14), "joint"]


def test_a_training_that_fails_stops_those_that_need_it_and_no_other(monkeypatch, capsys):
    """Experts of one scene fail: its router is not begun, the other scene goes on."""
    finished, begun = set(), []

    class Failing(LocalExecutor):
        def train_all(self, trainings, on_end=say_nothing):
            begun.extend(trainings)
            finished.update(job.folder for job in trainings if job.data.name != "bad")
            if any(job.data.name == "bad" for job in trainings):
                raise RuntimeError("the disk is full")

    monkeypatch.setattr(running, "_is_finished", lambda folder: folder in finished)
    train_all([table(10)], study("bad", "good"), Failing())
    assert [job.method for job in begun if job.data.name == "good"] == [
        "moegs-4dgaussians", "moegs-ed3dgs", "moegs-router"
    ]  # fmt: skip
    assert "moegs-router" not in {job.method for job in begun if job.data.name == "bad"}
    assert "the disk is full" in capsys.readouterr().out
    begun.clear()
    train_all([table(10)], study("good"), Failing())
    assert begun == []
