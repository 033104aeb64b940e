"""Interpolation between keyframes: against slow references, and what must hold for any keys."""

import math

import numpy as np
import pytest
import torch
from tolerances import FORWARD

from moegs_ns.experts.ex4dgs.dynamic_params import extrapolate, extrapolate_quats
from moegs_ns.experts.ex4dgs.expert import opacity_window
from moegs_ns.experts.keyframes import catmull_rom, key_position, slerp

NUM_KEYS = 7
ROWS = 5
TIMES = (1.0, 1.3, 2.0, 2.75, 3.999, 4.5, 5.0)


def keys(generator: torch.Generator, width: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(ROWS, NUM_KEYS, width, generator=generator, dtype=torch.float64).to(dtype)


def position(time: float, num_keys: int = NUM_KEYS, dtype=torch.float64):
    return key_position(torch.tensor(time, dtype=dtype), num_keys)


def at(function, values: torch.Tensor, time: float) -> torch.Tensor:
    return function(values, position(time, values.shape[1], values.dtype))


def scalar_catmull_rom(values: list[float], time: float) -> float:
    """One coordinate of a uniform Catmull-Rom spline in its textbook matrix form."""
    n = min(math.floor(time), len(values) - 3)
    a, b, c, d = values[n - 1 : n + 3]
    u = time - n
    return 0.5 * (
        2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3
    )


class TestPositions:
    @pytest.mark.parametrize("time", TIMES)
    def test_they_equal_the_scalar_spline(self, generator, time):
        values = keys(generator, 3)
        expected = [
            [scalar_catmull_rom(values[row, :, axis].tolist(), time) for axis in range(3)]
            for row in range(ROWS)
        ]
        torch.testing.assert_close(at(catmull_rom, values, time), torch.tensor(expected).double())

    def test_they_pass_through_the_keys(self, generator):
        values = keys(generator, 3)
        for key in range(1, NUM_KEYS - 1):
            torch.testing.assert_close(at(catmull_rom, values, float(key)), values[:, key])

    def test_position_and_speed_are_continuous_at_a_key(self, generator):
        values, step = keys(generator, 3), 1e-6
        before, on, after = (at(catmull_rom, values, 3.0 + d) for d in (-step, 0.0, step))
        torch.testing.assert_close((on - before) / step, (after - on) / step, atol=1e-4, rtol=0.0)

    def test_a_straight_line_stays_one_and_rest_stays_rest(self):
        start, speed = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, -1.0, 0.0])
        line = start + torch.arange(NUM_KEYS)[None, :, None] * speed
        for time in TIMES:
            expected = (start + time * speed)[None]
            FORWARD.assert_close(at(catmull_rom, line, time), expected)

    def test_only_four_keys_are_read(self, generator):
        values = keys(generator, 3).requires_grad_()
        at(catmull_rom, values, 2.5).sum().backward()
        assert values.grad is not None
        is_read = values.grad.abs().sum((0, 2)) > 0
        assert is_read.tolist() == [False, True, True, True, True, False, False]

    @pytest.mark.parametrize(("time", "nearest"), [(-3.0, 1), (0.2, 1), (5.4, 5), (9.0, 5)])
    def test_outside_of_the_keys_the_nearest_time_they_allow_counts(self, generator, time, nearest):
        values = keys(generator, 3)
        torch.testing.assert_close(at(catmull_rom, values, time), values[:, nearest])


class TestRotations:
    def test_they_equal_scipy(self, generator):
        transform = pytest.importorskip("scipy.spatial.transform")
        values = keys(generator, 4)
        for time in TIMES[:-1]:
            ours = at(slerp, values, time)
            n = math.floor(time)
            for row in range(ROWS):
                pair = values[row, n : n + 2].numpy()[:, [1, 2, 3, 0]]
                between = transform.Slerp([n, n + 1], transform.Rotation.from_quat(pair))
                x, y, z, w = between(time).as_quat()
                theirs = torch.from_numpy(np.array([w, x, y, z]))
                torch.testing.assert_close((ours[row] * theirs).sum().abs().item(), 1.0)

    def test_they_pass_through_the_keys_and_have_unit_length(self, generator):
        values = torch.nn.functional.normalize(keys(generator, 4), dim=-1)
        for key in range(1, NUM_KEYS - 1):
            same = (at(slerp, values, float(key)) * values[:, key]).sum(-1).abs()
            torch.testing.assert_close(same, torch.ones(ROWS).double())
        for time in TIMES:
            length = at(slerp, values, time).norm(dim=-1)
            torch.testing.assert_close(length, torch.ones(ROWS).double())

    def test_signs_and_lengths_of_the_keys_do_not_matter(self, generator):
        values = keys(generator, 4)
        signs = torch.where(torch.rand(ROWS, NUM_KEYS, 1, generator=generator) < 0.5, -1.0, 3.0)
        for time in TIMES:
            one, other = at(slerp, values, time), at(slerp, values * signs, time)
            same = (one * other).sum(-1).abs()
            torch.testing.assert_close(same, torch.ones(ROWS).double())

    def test_the_shorter_way_is_taken(self):
        """From 0 to 20 degrees about z, the latter stored with the opposite sign."""
        half = math.radians(10.0)
        turned = torch.tensor([math.cos(half), 0.0, 0.0, math.sin(half)])
        values = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(1, 4, 1)
        values[0, 2] = -turned
        w, _, _, z = at(slerp, values, 1.5)[0].tolist()
        assert math.degrees(2 * math.atan2(z, w)) == pytest.approx(10.0, abs=1e-3)

    def test_equal_and_opposite_keys_have_finite_gradients(self):
        values = torch.zeros(3, 4, 4)
        values[..., 0] = 1.0
        values[1, 2] = torch.tensor([-1.0, 0.0, 0.0, 0.0])
        values[2, 2] = torch.tensor([0.0, 1.0, 0.0, 0.0])
        values.requires_grad_()
        at(slerp, values, 1.4).sum().backward()
        assert values.grad is not None and values.grad.isfinite().all()


class TestOpacity:
    def window(self, time, centers=(2.0, 4.0), log_widths=(0.0, 0.5), **options):
        first, second = (torch.tensor([p], dtype=torch.float64) for p in (centers, log_widths))
        return opacity_window(torch.tensor(time).double(), first, second, 0.1, **options).item()

    def test_it_is_full_between_the_centres_and_a_Gaussian_beyond(self):
        for time in (2.0, 2.5, 4.0):
            assert self.window(time) == 1.0
        widths = 1.1, math.exp(0.5) + 0.1
        assert self.window(1.2) == pytest.approx(math.exp(-((0.8 / widths[0]) ** 2)))
        assert self.window(5.5) == pytest.approx(math.exp(-((1.5 / widths[1]) ** 2)))
        assert self.window(-20.0) < 1e-12 and self.window(40.0) < 1e-12

    def test_it_is_continuous_at_both_centres(self):
        for center in (2.0, 4.0):
            near = self.window(center - 1e-6), self.window(center + 1e-6)
            assert near == pytest.approx((1.0, 1.0), abs=1e-9)

    def test_the_order_of_the_centres_does_not_matter(self):
        for time in (0.5, 3.0, 4.7):
            assert self.window(time) == self.window(time, centers=(4.0, 2.0))

    def test_the_released_fade_in_is_measured_to_the_later_centre(self):
        assert self.window(1.5, as_released=True) == pytest.approx(math.exp(-((2.5 / 1.1) ** 2)))
        assert self.window(2.0, as_released=True) == 1.0
        assert self.window(5.0, as_released=True) == self.window(5.0)

    @pytest.mark.parametrize("time", [1.2, 3.0, 5.5])
    def test_equal_centres_make_one_Gaussian(self, time):
        expected = math.exp(-(((time - 3.0) / 1.1) ** 2))
        alone = self.window(time, centers=(3.0, 3.0), log_widths=(0.0, 0.0))
        assert alone == pytest.approx(expected)


def test_gradients_are_exact(generator):
    values, quats = keys(generator, 3).requires_grad_(), keys(generator, 4).requires_grad_()
    where = position(2.3)
    assert torch.autograd.gradcheck(lambda k: catmull_rom(k, where), (values,))
    assert torch.autograd.gradcheck(lambda k: slerp(k, where), (quats,))
    centers = torch.tensor([[2.0, 4.0], [3.0, 5.0], [0.5, 1.0]]).double().requires_grad_()
    log_widths = torch.randn(3, 2, generator=generator).double().requires_grad_()
    for as_released in (False, True):
        assert torch.autograd.gradcheck(
            lambda c, v, f=as_released: opacity_window(
                torch.tensor(2.3).double(), c, v, 0.1, as_released=f
            ),
            (centers, log_widths),
        )


def test_extrapolation_goes_straight_on(generator):
    line = torch.arange(6.0)[None, :, None] * torch.tensor([1.0, -2.0, 0.5])
    expected = torch.tensor([6.0, 7.0, 8.0])[None, :, None] * torch.tensor([1.0, -2.0, 0.5])
    FORWARD.assert_close(extrapolate(line, 3), expected)
    assert extrapolate(line[:, :4], 0).shape == (1, 0, 3)


def test_extrapolated_rotations_ignore_signs_and_have_unit_length(generator):
    quats = keys(generator, 4)
    signs = torch.where(torch.rand(ROWS, NUM_KEYS, 1, generator=generator) < 0.5, -1.0, 1.0)
    one, other = extrapolate_quats(quats, 2), extrapolate_quats(quats * signs, 2)
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(ROWS, 2).double())
    torch.testing.assert_close((one * other).sum(-1).abs(), torch.ones(ROWS, 2).double())


def test_nothing_interpolates_to_nothing():
    assert at(catmull_rom, torch.zeros(0, 4, 3), 1.5).shape == (0, 3)
    assert at(slerp, torch.zeros(0, 4, 4), 1.5).shape == (0, 4)
    empty = torch.zeros(0, 2)
    assert opacity_window(torch.tensor(1.0), empty, empty, 0.1).shape == (0,)
