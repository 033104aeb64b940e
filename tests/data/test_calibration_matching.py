"""Which entry of a calibration is that of which camera."""

import pytest

from moegs_ns.data.calibrations.matching import match_names
from moegs_ns.data.rig_files import RigCamera


@pytest.mark.parametrize(
    ("cameras", "calibrated", "expected"),
    [
        (["a", "b"], ["b", "a"], ["a", "b"]),
        (["hd_00_05", "hd_00_15"], ["00_15", "00_05", "01_05"], ["00_05", "00_15"]),
        (["Miqus_1_28073", "Miqus_2_28085"], ["28085", "28073"], ["28073", "28085"]),
        (["cam_1", "cam_10"], ["01", "10"], ["01", "10"]),
        (["cam1", "cam2", "cam10"], ["camera_01", "camera_10"], ["camera_01", None, "camera_10"]),
        (["left", "right"], ["l", "r"], [None, None]),
        (["x_1", "y_1"], ["1"], [None, None]),
    ],
)
def test_cameras_are_found_by_their_names(cameras, calibrated, expected):
    found = match_names(cameras, [RigCamera(name) for name in calibrated], {})
    assert [None if each is None else each.name for each in found] == expected


def test_given_names_go_first():
    calibrated = [RigCamera(name) for name in ("a", "b", "c")]
    found = match_names(["a", "b"], calibrated, {"a": "b", "b": "c"})
    assert [each.name for each in found if each] == ["b", "c"]
    with pytest.raises(ValueError, match=r"--names expects .*got a=z"):
        match_names(["a", "b"], calibrated, {"a": "z"})


def test_calibrations_without_names_follow_the_alphabet():
    calibrated = [RigCamera("", width=number) for number in range(3)]
    found = match_names(["cam2", "cam0", "cam1"], calibrated, {})
    assert [each.width for each in found if each] == [2, 0, 1]
    with pytest.raises(ValueError, match=r"each of the 2 cameras .*got 3"):
        match_names(["cam0", "cam1"], calibrated, {})
    with pytest.raises(ValueError, match=r"leading zeros"):
        match_names(["cam1", "cam2", "cam10"], calibrated, {})
