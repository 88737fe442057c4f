"""The named algorithms: assemblies of a mutation, a selection rule and a number of offspring."""

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

from mutagrad import check
from mutagrad import mutation as mutations
from mutagrad import selection as selections
from mutagrad.algorithms.generation import mutation_selection
from mutagrad.types import Algorithm, Mutation, Selection

__all__ = [
    "boltzmann",
    "comma",
    "elitist",
    "fixation",
    "greedy",
    "logistic",
    "metropolis",
    "truncation",
    "weighted_recombination",
]


class Options(TypedDict, total=False):
    """Keyword arguments that every named algorithm takes; each is described in `mutation_selection`."""

    mutation: Mutation | Callable
    reevaluate_parent: bool
    evaluation: Any


def _assemble(selection: Selection, num_offspring: int, sigma: Any, options: Options) -> Algorithm:
    rest: dict[str, Any] = {"mutation": mutations.gaussian(), **options}
    return mutation_selection(rest.pop("mutation"), selection, num_offspring, sigma=sigma, **rest)


def metropolis(sigma: Any, beta: Any, **options: Unpack[Options]) -> Algorithm:
    """One mutant, accepted with probability min(1, exp(−β ΔU)).

    For small βσ|∇U| it is gradient descent with learning rate βσ²/2, for large the normalised one with σ/√(2π); at any
    σ it samples exp(−βU).

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : inverse temperature β ≥ 0 [1/loss].
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [W21] eq. 1, 3 and 6.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.metropolis(sigma=0.1, beta=10.0)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> info.losses.shape
    (1,)
    """
    return _assemble(selections.metropolis(beta), 1, sigma, options)


def greedy(sigma: Any, **options: Unpack[Options]) -> Algorithm:
    """One mutant, accepted if it is no worse: (1+1), Metropolis at zero temperature.

    For small σ it is normalised gradient descent with learning rate σ/√(2π).

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [W21] eq. 6.

    >>> import mutagrad
    >>> mutagrad.greedy(sigma=0.1).definition.num_offspring
    1
    """
    return _assemble(selections.greedy(), 1, sigma, options)


def logistic(sigma: Any, beta: Any, **options: Unpack[Options]) -> Algorithm:
    """One mutant, accepted with probability 1/(1 + exp(β ΔU)) (Barker's rule).

    For small βσ|∇U| it is gradient descent with learning rate βσ²/4 per attempt, βσ²/2 per accepted step; at any σ it
    samples exp(−βU).

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : inverse temperature β ≥ 0 [1/loss].
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: theory.md 1, derived for this project, tested in tests/test_drift.py.

    >>> import mutagrad
    >>> mutagrad.logistic(sigma=0.1, beta=10.0).definition.selection.name
    'logistic'
    """
    return _assemble(selections.logistic(beta), 1, sigma, options)


def fixation(
    sigma: Any, beta: Any, population_size: int, model: str = "moran", **options: Unpack[Options]
) -> Algorithm:
    """One mutant at a time in a population of n, accepted with its probability of fixation.

    Population size is inverse temperature: the chain samples exp(−νβU) with ν = n − 1 for Moran, and 2(n − 1) for
    Wright–Fisher as far as selection is weak.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : strength of selection, fitness exp(−βU) [1/loss].
    population_size : n ≥ 1.
    model : "moran", where the formula is exact, or "wright_fisher", which `mutagrad.population` is unless told otherwise.
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [SH05], [S22] second model; theory.md 6.

    >>> import mutagrad
    >>> mutagrad.fixation(sigma=0.1, beta=1.0, population_size=10).definition.selection.options["model"]
    'moran'
    """
    return _assemble(selections.fixation(beta, population_size, model), 1, sigma, options)


def boltzmann(sigma: Any, beta: Any, num_offspring: int, **options: Unpack[Options]) -> Algorithm:
    """One of M mutants and their parent, with probability ∝ exp(−β loss).

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : inverse temperature β ≥ 0 [1/loss].
    num_offspring : M ≥ 1.
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [S22]; theory.md 2.

    >>> import mutagrad
    >>> mutagrad.boltzmann(sigma=0.1, beta=10.0, num_offspring=8).definition.num_offspring
    8
    """
    return _assemble(selections.boltzmann(beta), num_offspring, sigma, options)


def elitist(sigma: Any, num_offspring: int, **options: Unpack[Options]) -> Algorithm:
    """The best of M mutants if it is no worse than the parent: the (1+M) genetic algorithm.

    For small σ it is normalised gradient descent with learning rate c_M σ, c_M = E[max(0, Z_(M))].

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    num_offspring : M ≥ 1; M = 1 is `greedy`.
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [W26]; theory.md 2.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=20)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> bool(info.losses[info.winner] <= info.parent_loss)
    True
    """
    return _assemble(selections.elitist(), num_offspring, sigma, options)


def comma(sigma: Any, num_offspring: int, **options: Unpack[Options]) -> Algorithm:
    """The best of M mutants, even if it is worse than the parent: the (1,M) evolution strategy.

    For small σ it is normalised gradient descent with learning rate σ E[Z_(M)].

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    num_offspring : M ≥ 1; M = 1 is a random walk.
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [B01]; theory.md 2.

    >>> import mutagrad
    >>> mutagrad.comma(sigma=0.1, num_offspring=20).definition.selection.name
    'comma'
    """
    return _assemble(selections.comma(), num_offspring, sigma, options)


def truncation(sigma: Any, population_size: int, num_parents: int, **options: Unpack[Options]) -> Algorithm:
    """The best K of n mutants become parents; each mutant has a parent drawn uniformly among them: (K, n).

    The state is a `PopulationState`; its ``params`` are the best parent.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    population_size : n ≥ 1, mutants per generation.
    num_parents : K ≤ n, survivors per generation; 1 is `comma`.
    **options : ``mutation``, ``evaluation``, as in `mutation_selection`.

    Source: [B01]; Such et al. 2017 (arXiv 1712.06567), without its elite.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.truncation(sigma=0.1, population_size=20, num_parents=5)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> state.parents.shape, state.params.shape
    ((5, 3), (3,))
    """
    population_size = check.count("population_size", population_size)
    return _assemble(selections.truncation(num_parents), population_size, sigma, options)


def weighted_recombination(
    sigma: Any, num_offspring: int, weights: Any = None, **options: Unpack[Options]
) -> Algorithm:
    """All M mutants recombine: the parent moves by σ Σ w_k z_(k), their mutations weighted by rank.

    For small σ it is normalised gradient descent with learning rate σ Σ w_k E[Z_(k)]. With the normal scores as weights,
    the best there are, that is about Mσ; at the best σ a generation gains M/2 in units of |∇U|²/TrH, where (1+M) gains
    G_M ~ ln M, as long as M is small against TrH/ĝ·Hĝ: `mutagrad.theory.recombination_gain`.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter]. A step is √(Σw²) mutations long, about √M, and is not
        taken back: under `mutagrad.adapt_sigma` too start where √M σ is small beside the parameters, or what they know is lost.
    num_offspring : M ≥ 2.
    weights : (M,) numbers, that of the best offspring first; the normal scores E[Z_(k)] unless given. 1/K for the best
        K and 0 for the others is the (K/K,M) evolution strategy.
    **options : ``mutation``, ``evaluation``, as in `mutation_selection`.

    Memory: where `mutagrad.adapt_sigma`, `mutagrad.diagnose` or theory asks for its law, that takes 26 MiB for M = 100,
    650 MiB for 400 and 6 GB for 1,000.

    Source: Arnold 2006 (Theor. Comput. Sci. 361, 18), on the sphere; theory.md 2 and 3 for its neighbours.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.weighted_recombination(sigma=0.05, num_offspring=20)
    >>> loss_fn = lambda x: jnp.sum(x**2)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(100)), loss_fn)
    >>> bool(loss_fn(state.params) < jnp.min(info.losses))
    True
    """
    num_offspring = check.count("num_offspring", num_offspring, 2)
    values = selections.normal_scores(num_offspring) if weights is None else weights
    return _assemble(selections.weighted(values), num_offspring, sigma, options)
