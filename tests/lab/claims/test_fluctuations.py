"""The next order of the Langevin equation about gradient descent, by other means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import mutagrad
from mutagrad import theory
from mutagrad.lab.claims.claims import Job
from mutagrad.lab.claims.tanh_nets import shallow_losses, shallow_start
from mutagrad.lab.claims.whitelam2021 import fluctuations as module
from mutagrad.lab.claims.whitelam2021 import population, stated, three_units
from mutagrad.lab.claims.whitelam2021.orders import PLANNED, Planned
from mutagrad.lab.claims.whitelam2021.paths import most_moved

pytestmark = [pytest.mark.permissive, pytest.mark.verify]


def loss(x):
    return jnp.mean(shallow_losses(x))


def direction(x):
    slope = jax.grad(loss)(x)
    return -slope / jnp.linalg.norm(slope)


def test_covariance_and_shift_solve_their_equations():
    """Two units: J and the second derivatives of −ĝ by automatic differentiation, the equations by an adaptive solver."""
    start = 20 * shallow_start(units=2)
    found = module.fluctuations(Job({}), start, 0.3, 2)
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(start), jnp.float64)
        size = x.size
        parts = jax.jit(lambda x: (direction(x), jax.jacfwd(direction)(x), jax.jacfwd(jax.jacfwd(direction))(x)))
        step = 1.0
        moments = theory.diffusion(mutagrad.greedy(step * np.sqrt(2 * np.pi)), 1.0)
        across, along = float(moments.transverse), float(moments.longitudinal) - step**2

        def rate(_, y):
            x, covariance, shift = y[:size], y[size:-size].reshape(size, size), y[-size:]
            drift, slope, bend = (np.asarray(part) for part in parts(jnp.asarray(x)))
            noise = across * np.eye(size) + (along - across) * np.outer(drift, drift)
            grown = slope @ covariance
            moved = slope @ shift + np.einsum("ijk,jk->i", bend, covariance) / 2
            return np.concatenate([drift, (grown + grown.T + noise).ravel(), moved])

        begin = np.concatenate([np.asarray(x), np.zeros(size**2 + size)])
        solved = scipy.integrate.solve_ivp(rate, (0, 0.3), begin, t_eval=[0.15, 0.3], rtol=1e-7, atol=1e-9).y.T
    np.testing.assert_allclose(found.descent, solved[:, :size], atol=1e-4)
    covariance = solved[:, size:-size].reshape(2, size, size)
    scale = np.trace(covariance, axis1=1, axis2=2)[:, None, None]
    np.testing.assert_allclose(found.covariance / scale, covariance / scale, atol=2e-3)
    length = np.linalg.norm(solved[:, -size:], axis=1, keepdims=True)
    np.testing.assert_allclose(found.shift / length, solved[:, -size:] / length, atol=5e-3)


def test_mean_loss_to_next_order_is_that_of_a_normal_cloud():
    """∇U·m + ½Tr(HC) is the mean of the loss over points with that mean and covariance, for a small h."""
    found = module.fluctuations(Job({}), 20 * shallow_start(units=2), 0.1, 1)
    small = 1e-6
    random = np.random.default_rng(0)
    drawn = random.multivariate_normal(np.zeros(6), found.covariance[0], 40_000)
    with jax.enable_x64(True):
        cloud = [found.descent[0] + small * found.shift[0] + sign * np.sqrt(small) * drawn for sign in (1, -1)]
        losses = sum(np.asarray(jax.vmap(loss)(jnp.asarray(points))) for points in cloud) / 2
    excess = losses - found.losses[0]
    error = excess.std() / np.sqrt(len(excess))
    assert abs(excess.mean() - small * found.excess[0]) < 4 * error
    assert error < 0.1 * abs(excess.mean())


@pytest.mark.parametrize(("time", "records"), [(0.4, 4), (2.0, 20)])
def test_orders_that_claims_state_are_those_of_the_law(time, records):
    law, planned = module.fluctuations(Job({}), shallow_start(), time, records), PLANNED[time]
    way, fell = law.descent - law.start, loss(shallow_start()) - law.losses
    found = {"end": law.shift[-1] @ way[-1] / np.sum(np.square(way[-1])), "loss": -law.excess @ fell / (fell @ fell)}
    for place, weight in zip(("first", "second", "third", "fourth"), most_moved(law), strict=True):
        found[place] = law.shift[:, weight] @ way[:, weight] / np.sum(np.square(way[:, weight]))
    known = {name: one.order for name, one in planned.items() if isinstance(one, Planned)}
    assert set(known) == set(found)
    np.testing.assert_allclose([known[name] for name in found], list(found.values()), rtol=0.02)


def regressed(values, law):
    """Where the regression of the excess would be by another law."""
    return values @ law.excess / (law.excess @ law.excess)


@pytest.mark.parametrize(("time", "records"), [(0.4, 4), (2.0, 20), ("three units", 3)])
def test_neighbours_that_claims_exclude_are_where_they_say(time, records):
    if time == "three units":
        law, times = three_units.law_of(Job({})), three_units.times()
    else:
        law, times = module.fluctuations(Job({}), shallow_start(), time, records), np.linspace(0, time, records + 1)[1:]
    without = np.einsum("tij,tij->t", law.curvatures, law.covariance) / 2
    sudden = np.pi / 2 * np.einsum("tii->t", law.curvatures) * times
    found = [regressed(one, law) for one in (without, sudden)]
    np.testing.assert_allclose(stated.NEIGHBOURS[time], found, rtol=0.03)


def test_shift_and_floor_of_the_small_net():
    law, floors = three_units.law_of(Job({})), stated.SHIFT_OVER_FLOOR
    trace = np.einsum("tii->t", law.covariance)
    ratios = np.sum(np.square(law.shift), axis=1) / trace
    np.testing.assert_allclose([floors[0.2], floors[0.6]], [ratios[0], ratios[2]], rtol=1e-2)
    np.testing.assert_allclose(trace[2] / (np.pi * 9 - 1) / 0.6, stated._PARTED, rtol=1e-2)


@pytest.mark.parametrize("case", [(100, 20, 500), (20, 4, 50)])
def test_populations_on_a_line(case):
    """Truncation of one coordinate on a linear loss, in NumPy: every mutant has a parent drawn among the survivors."""
    (number, kept, generations), repeats = case, 100
    random = np.random.default_rng(4)
    parents = np.zeros((repeats, kept))
    for _ in range(generations):
        drawn = np.take_along_axis(parents, random.integers(kept, size=(repeats, number)), axis=1)
        parents = np.sort(drawn + random.standard_normal(drawn.shape), axis=1)[:, -kept:]
    drift = parents.mean(1) / generations * np.sqrt(2 * np.pi)
    mean, error, deviation = population._LINE[case]
    assert abs(drift.mean() - mean) < 4 * np.hypot(drift.std() / np.sqrt(repeats), error)
    np.testing.assert_allclose(drift.std(), deviation, rtol=0.3)
