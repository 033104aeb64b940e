"""The table of students: gains are over plain students of the same seeds."""

import pytest

from benchmarks.quality.distillation import FIGURES, summary


def student(supervision: str, seed: int, psnr: float) -> dict:
    figures = dict.fromkeys(FIGURES, 1.0) | {"psnr": psnr}
    texts = {"method": "moegs-stg", "kind": "expert", "options": "", "reason": ""}
    return texts | {"supervision": supervision, "seed": seed} | figures


def test_gains_are_over_plain_students_of_the_same_seeds():
    """A seed that is luckier than another must not count as a gain."""
    rows = [student("ground-truth", 0, 20.0), student("ground-truth", 1, 24.0)]
    rows += [student("unweighted", 1, 25.0)]
    plain, taught = summary(rows)
    assert (plain["gain"], plain["n"]) == (0.0, 2)
    assert taught["gain"] == pytest.approx(1.0)
    assert taught["seeds"] == [1]


def test_without_plain_students_of_its_seed_there_is_no_gain():
    taught = summary([student("ground-truth", 0, 20.0), student("unweighted", 1, 25.0)])[1]
    assert taught["gain"] is None
    assert "gain: ground-truth was not trained with these seeds" in taught["reason"]
