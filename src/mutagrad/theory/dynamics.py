"""The gradient descent and the Langevin equation that an algorithm amounts to (theory.md 1, 2 and 5)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mutagrad import check, tree
from mutagrad.theory.definition import sigma_of, sigma_of_readable
from mutagrad.theory.geometry import Geometry, radial
from mutagrad.theory.laws import mean_step
from mutagrad.theory.moments import inverse_temperature, moments, sees_ranks_only
from mutagrad.types import Algorithm, Params

__all__ = ["Langevin", "equivalent_gradient_descent", "langevin", "learning_rate"]

REGIMES = ("crossover", "plain", "normalized")
_SMALL, _LARGE = 1e-6, 1e12


def learning_rate(
    algorithm: Algorithm, regime: str = "plain", sigma: Any = None, num_parameters: int | None = None
) -> jax.Array:
    """Learning rate of the gradient descent that an algorithm becomes in a limit.

    Parameters
    ----------
    algorithm, sigma, num_parameters : as in `drift`.
    regime : "plain" for βσ|∇U| → 0, with x ← x − η∇U; "normalized" for βσ|∇U| → ∞, with x ← x − η ∇U/|∇U|.

    Returns
    -------
    η [parameter²/loss] if plain, [parameter] if normalized. Metropolis: βσ²/2 and σ/√2π. (1+M): normalized c_M σ.

    Raises
    ------
    ValueError : as `drift`; if the regime is unknown or the algorithm has no such limit. Rules that see ranks only are
        normalised gradient descent at every slope. An acceptance of your own has limits if it states an inverse temperature.

    Source: [W21] eqs. 3 and 6; [W26].

    >>> import mutagrad
    >>> metropolis = mutagrad.metropolis(sigma=0.01, beta=100.0)
    >>> round(float(mutagrad.theory.learning_rate(metropolis)), 6)
    0.005
    """
    check.choice("regime", regime, ("plain", "normalized"))
    definition, sigma = radial(algorithm.definition), sigma_of(algorithm.definition, sigma)
    kappa, is_ranked = inverse_temperature(definition), sees_ranks_only(definition)
    if kappa is None or (regime == "plain" and is_ranked):
        why = "whose law has no inverse temperature" if kappa is None else "which sees only the order of the losses"
        instead = "use 'normalized'"
        if kappa is None:
            instead = "use equivalent_gradient_descent(algorithm, 'crossover')"
        raise ValueError(f"regime: got {regime!r} with {definition.selection.name} selection, {why}: {instead}")
    if check.concrete(kappa) == 0:
        raise ValueError(f"regime: got {regime!r} with β = 0, a random walk that descends no gradient; pass β > 0")

    def drift(norm: Any) -> jax.Array:
        return sigma * moments(definition, sigma * norm, num_parameters).first

    if regime == "normalized":
        return -drift(1.0 if is_ranked else _LARGE / (sigma * kappa))
    norm = _SMALL / (sigma * kappa)
    return -drift(norm) / norm


def equivalent_gradient_descent(
    algorithm: Algorithm, regime: str = "crossover", sigma: Any = None
) -> optax.GradientTransformation:
    """The gradient descent that an algorithm is on average, as an Optax optimiser: its step is `mean_step` of the gradient.

    Parameters
    ----------
    algorithm, sigma : as in `drift`; σ is held.
    regime : "crossover", right at every slope; "plain", x ← x − ηC∇U, its limit for βσ|∇U| → 0; "normalized",
        x ← x − ηC∇U/|∇U|, its limit for βσ|∇U| → ∞. C is 1 unless mutations are scaled; then it is diag(scale²), and
        the norm is that of scale·∇U.

    Raises
    ------
    ValueError : as `learning_rate` and `mean_step`.

    Domain: the runs of the algorithm follow it on average where s = σTrH/|∇U| ≪ 1.

    Source: [W21], [W26], [S22].

    >>> import jax.numpy as jnp, mutagrad
    >>> optimizer = mutagrad.theory.equivalent_gradient_descent(mutagrad.elitist(sigma=0.1, num_offspring=20))
    >>> gradient = jnp.array([3.0, 4.0])
    >>> updates, _ = optimizer.update(gradient, optimizer.init(gradient))
    >>> [round(float(u), 3) for u in updates]                                      # −1.8675 · 0.1 · (0.6, 0.8)
    [-0.112, -0.149]
    """
    check.choice("regime", regime, REGIMES)
    sigma = sigma_of_readable(algorithm.definition, sigma)
    rate = None if regime == "crossover" else learning_rate(algorithm, regime, sigma)

    def init(params: Params) -> optax.EmptyState:
        return optax.EmptyState()

    def update(updates: Params, state: optax.EmptyState, params: Params = None) -> tuple[Params, optax.EmptyState]:
        if rate is None:
            return mean_step(algorithm, updates, sigma), state
        geometry = Geometry.of(algorithm.definition, updates)
        slope, direction = geometry.slope(updates)
        number = geometry.num_parameters
        own = rate if number is None else learning_rate(algorithm, regime, sigma, number)
        along = -own * (slope if regime == "plain" else 1)
        return geometry.to_params(tree.scale(direction, along)), state

    return optax.GradientTransformation(init, update)


class Langevin(NamedTuple):
    """dx = drift dt + √D dW with one generation as the unit of time (Itô); see `langevin`.

    Attributes
    ----------
    drift : ``drift(t, x, args) -> pytree``, the mean step at x [parameter per generation].
    diffusion : ``diffusion(t, x, args) -> lineax.AbstractLinearOperator``, √D at x [parameter per √generation].
    """

    drift: Callable[[Any, Params, Any], Params]
    diffusion: Callable[[Any, Params, Any], Any]

    def terms(self, brownian_motion: Any) -> Any:
        """The diffrax terms of the equation, for ``diffrax.diffeqsolve`` with an Itô solver such as ``diffrax.Euler``.

        Parameters
        ----------
        brownian_motion : a ``diffrax.AbstractBrownianPath`` of the shape of the params.
        """
        import diffrax

        return diffrax.MultiTerm(
            diffrax.ODETerm(self.drift),
            diffrax.ControlTerm(self.diffusion, brownian_motion),
        )

    def solve(
        self, key: jax.Array, params: Params, num_generations: float, num_steps: int, save_at: Any = None
    ) -> Params:
        """Paths by Euler–Maruyama, one for the key given (``vmap`` over keys for more).

        Parameters
        ----------
        key : of the Brownian motion.
        params : where the path starts.
        num_generations : how long it is.
        num_steps : into how many steps of equal length it is cut.
        save_at : (k,) generations at which it is kept, increasing; the last one unless given.

        Returns
        -------
        pytree whose leaves have a first axis (k,). A ValueError says if the gradient is exactly zero at the start.

        >>> import jax, jax.numpy as jnp, mutagrad
        >>> equation = mutagrad.theory.langevin(mutagrad.greedy(sigma=1e-3), lambda x: x)
        >>> path = equation.solve(jax.random.key(0), jnp.ones(10), num_generations=1000, num_steps=200)
        >>> path.shape, bool(jnp.linalg.norm(path[-1]) < jnp.linalg.norm(jnp.ones(10)))
        ((1, 10), True)
        """
        import diffrax

        slope = tree.squared_norm(self.drift(0.0, params, None))
        if check.concrete(slope) == 0:
            raise ValueError(
                "grad_fn: got a gradient of exactly zero at the start; if the loss has steps it has no useful gradient: "
                "train it without one, by mutagrad.evolve"
            )
        num_steps = check.count("num_steps", num_steps)
        shape = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
        path = diffrax.UnsafeBrownianPath(shape, key)
        times = jnp.asarray([num_generations] if save_at is None else save_at, jnp.result_type(float))
        solution = diffrax.diffeqsolve(
            self.terms(path),
            diffrax.Euler(),
            t0=0.0,
            t1=float(num_generations),
            dt0=num_generations / num_steps,
            y0=params,
            saveat=diffrax.SaveAt(ts=times),
            adjoint=diffrax.DirectAdjoint(),
            max_steps=num_steps + 2,
        )
        return solution.ys


def langevin(algorithm: Algorithm, grad_fn: Callable[[Params], Params], sigma: Any = None) -> Langevin:
    """The Langevin equation of an algorithm: its drift, and its noise along and across the gradient.

    dx = d(|g|) ĝ dt + √D dW with D = D_⊥(I − ĝĝᵀ) + D_∥ ĝĝᵀ: d is `drift`, D_⊥ the transverse moment of `diffusion`, and D_∥
    the longitudinal one less d², the variance of a step. For scaled mutations all of it holds in units of the scales.

    Parameters
    ----------
    algorithm, sigma : as in `drift`; σ is held.
    grad_fn : ``grad_fn(params) -> ∇U``, such as ``jax.grad(loss_fn)``.

    Returns
    -------
    Langevin, whose ``terms`` are diffrax's and whose ``solve`` makes a path.

    Raises
    ------
    ValueError : as `drift`.
    ImportError : if diffrax (the ``lab`` extra) is not installed.

    Domain: s = σTrH/|∇U| ≪ 1 for the drift; at finite β both moments of theory.md 5 hold to leading order in σ.

    Source: [W21], [W26]; theory.md 5.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> equation = mutagrad.theory.langevin(mutagrad.elitist(sigma=0.01, num_offspring=20), jax.grad(lambda x: jnp.sum(x**2)))
    >>> step = equation.drift(0.0, jnp.ones(4), None)
    >>> round(float(jnp.linalg.norm(step)), 6)
    0.018675
    """
    for name in ("diffrax", "lineax"):
        check.installed(name, "Langevin equations")
    import lineax

    sigma = sigma_of_readable(algorithm.definition, sigma)

    def fields(x: Params) -> tuple[Geometry, Params, jax.Array, jax.Array, jax.Array]:
        """Where the params are radial, ĝ there, and the mean of a step along ĝ with both second moments."""
        geometry = Geometry.of(algorithm.definition, x)
        slope, direction = geometry.slope(grad_fn(x))
        _, scale, found = geometry.moments(slope, sigma)
        square = jnp.square(scale)
        return geometry, direction, scale * found.first, square * found.second, square * found.transverse

    def drift_field(t: Any, x: Params, args: Any) -> Params:
        geometry, direction, first, _, _ = fields(x)
        return geometry.to_params(tree.scale(direction, first))

    def diffusion_field(t: Any, x: Params, args: Any) -> Any:
        geometry, direction, first, longitudinal, transverse = fields(x)
        across = jnp.sqrt(transverse)
        extra = jnp.sqrt(jnp.maximum(longitudinal - jnp.square(first), 0)) - across

        def apply(noise: Params) -> Params:
            products = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), direction, noise))
            along = sum(products[1:], products[0])
            total = jax.tree.map(lambda n, d: across * n + extra * along * d, noise, direction)
            return geometry.to_params(total)

        return lineax.FunctionLinearOperator(apply, jax.eval_shape(lambda: x))

    return Langevin(drift_field, diffusion_field)
