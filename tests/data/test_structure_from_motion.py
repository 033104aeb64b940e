"""Features, matches of one instant only, and how two calibrations are compared."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from rig_helpers import known_cameras, lens_of

from moegs_ns.data.calibrations.comparing import differences, similarity_between
from moegs_ns.data.features import Features, find_features, match_features
from moegs_ns.data.rig_files import Rig, RigCamera
from moegs_ns.data.structure_from_motion.calibrating import spread
from moegs_ns.data.structure_from_motion.pooling import pool


def found_in(image: np.ndarray, most: int, **options) -> Features:
    return find_features(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), most, **options)


def test_matches_point_at_the_features_of_their_instant():
    """Three cameras at two instants; every feature is named after camera, instant and place."""
    counts = [[2, 3, 1], [4, 1, 2]]
    features = [
        [np.array([[camera, 10.0 * instant + place] for place in range(count)]) for camera, count
         in enumerate(of_instant)]
        for instant, of_instant in enumerate(counts)
    ]  # fmt: skip
    matches = [
        {(0, 1): np.array([[0, 2], [1, 0]]), (0, 2): np.empty((0, 2), np.int64)},
        {(0, 1): np.array([[3, 0]]), (1, 2): np.array([[0, 1]])},
    ]
    pooled = pool(features, matches)
    assert [len(xy) for xy in pooled.keypoints] == [6, 4, 3]
    seen = {
        pair: [
            (pooled.keypoints[pair[0]][i].tolist(), pooled.keypoints[pair[1]][j].tolist())
            for i, j in pairs
        ]
        for pair, pairs in pooled.matches.items()
    }
    assert seen == {
        (0, 1): [([0, 0], [1, 2]), ([0, 1], [1, 0]), ([0, 13], [1, 10])],
        (0, 2): [],
        (1, 2): [([1, 10], [2, 11])],
    }


def test_features_of_a_shifted_image_match_where_they_moved():
    noise = np.random.default_rng(0).random((30, 40))
    base = cv2.resize(noise, (400, 300), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    image = np.repeat((255 * base).astype(np.uint8)[..., None], 3, axis=2)
    one = found_in(image[:240, :320], 500)
    two = found_in(image[24:264, 36:356], 500)
    pairs = match_features(one, two)
    assert 100 < len(one.xy) <= 500
    assert len(pairs) > 100
    moved = one.xy[pairs[:, 0]] - two.xy[pairs[:, 1]]
    np.testing.assert_allclose(np.median(moved, axis=0), [36, 24], atol=0.05)
    # Another scale of pixels, whose first still has its centre at half a pixel.
    half = found_in(image[:240, :320], 500, scale=(2.0, 2.0))
    np.testing.assert_allclose(half.xy, 2.0 * one.xy)


def test_a_spot_lies_at_its_place():
    """The centre of the pixel in row 50 and column 70 is at (70.5, 50.5)."""
    y, x = np.mgrid[:100, :140]
    spot = np.exp(-((x - 70) ** 2 + (y - 50) ** 2) / 18.0)
    image = np.repeat((255 * spot).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_allclose(found_in(image, 10).xy[0], [70.5, 50.5], atol=0.1)


def test_ambiguous_features_do_not_match():
    random = np.random.default_rng(1)
    descriptors = random.integers(0, 255, (6, 128), dtype=np.uint8)
    xy = np.zeros((6, 2), np.float32)
    one = Features(xy, descriptors)
    twice = Features(np.zeros((7, 2), np.float32), np.concatenate([descriptors, descriptors[:1]]))
    assert match_features(one, twice).tolist() == [[i, i] for i in range(1, 6)]
    assert len(match_features(one, Features(xy[:1], descriptors[:1]))) == 0


def test_instants_are_spread_over_the_clip():
    assert spread(160, 8) == [10, 30, 50, 70, 90, 110, 130, 150]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(9, 1) == [4]


def test_calibrations_in_different_worlds_are_compared():
    cameras = tuple(
        RigCamera(c.name, "", 640, 480, lens_of(c, 640, 480), np.c_[c.R, c.t])
        for c in known_cameras(("a", "b", "c", "d"))
    )
    reference = Rig(cameras)
    # The same rig in a world that is turned, moved and half as large, with two mistakes.
    turn = cv2.Rodrigues(np.array([0.3, -0.9, 0.5]))[0]
    moved = []
    for camera in cameras:
        assert camera.world_to_camera is not None
        rotation = camera.world_to_camera[:, :3] @ turn.T
        position = 0.5 * turn @ camera.position + (1.0, 2.0, 3.0)
        pose = np.c_[rotation, -rotation @ position]
        moved.append(replace(camera, world_to_camera=pose))
    found = Rig(tuple(moved))
    assert similarity_between(found, reference).scale == pytest.approx(2.0)
    exact = differences(found, reference)
    assert exact.names == ("a", "b", "c", "d")
    for values in (exact.centers, exact.degrees, exact.focals):
        np.testing.assert_allclose(values, 0.0, atol=1e-6)
    lens = cameras[1].lens
    assert lens is not None
    moved[1] = replace(moved[1], lens=replace(lens, fx=1.1 * lens.fx, fy=1.1 * lens.fy))
    tilt = cv2.Rodrigues(np.array([0.0, np.deg2rad(3.0), 0.0]))[0]
    moved[2] = replace(moved[2], world_to_camera=tilt @ moved[2].world_to_camera)
    wrong = differences(Rig(tuple(moved)), reference)
    np.testing.assert_allclose(wrong.focals, [0, 0.1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(wrong.degrees, [0, 0, 3.0, 0], atol=1e-5)
    with pytest.raises(ValueError, match="at least 3 cameras that both"):
        differences(Rig(tuple(moved[:2])), reference)
