"""Early rejection: an offspring is evaluated on growing parts of the batch, and dropped once it is known to lose."""

from mutagrad import check, law
from mutagrad.algorithms.generation import assemble
from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.rejection import Rejecting
from mutagrad.types import Algorithm, UnknownDefinition

__all__ = ["early_rejection"]


def early_rejection(algorithm: Algorithm, error: float = 0.01, part_size: int = 256) -> Algorithm:
    """Evaluate each offspring only until it is known to lose.

    The parent is evaluated on the whole batch. Each offspring is evaluated part by part, and compared with the best candidate so
    far, example by example. When 1, 2, 4, … parts are done it is dropped if its mean difference is above 0 by so many standard
    errors that all looks together err with probability ``error``. What becomes a parent has been evaluated on the whole batch, so
    that a step is never one that the whole batch would refuse. At most a share ``error`` of the drift is lost (theory.md 8.5).

    It saves where the batch is large beside the gradient noise scale B* = TrC/|∇U|². Of 20 offspring it saves a tenth of the
    examples at n = B*, a third at 10 B* and two thirds at 100 B* (`mutagrad.theory.examples_evaluated`). A smaller batch may
    serve as well there (`mutagrad.adapt_batch_size`): early rejection is for when the whole batch is to decide.

    Parameters
    ----------
    algorithm : `mutagrad.elitist` or `mutagrad.comma`, or another assembly whose rule takes the one best; before it is wrapped in
        `mutagrad.adapt_sigma`.
    error : probability to drop an offspring that is no worse than the best on the whole batch, from 0 (drop none) to below 0.5.
        It rests on the central limit theorem for ``part_size`` differences and more: where a candidate gains much on fewer
        than one example in ``part_size`` and loses little on all others, it is larger.
    part_size : examples evaluated at a time. A batch that is no larger is evaluated whole.

    Returns
    -------
    Algorithm, which needs a loss ``loss_fn(params, batch)`` that returns per-example losses, and batches whose arrays share their
    first axis. Its ``info.num_examples`` is the mean number of examples on which a candidate was evaluated. Of a rejected
    offspring ``info.losses`` is an estimate, made where it looked worst. What ``info`` and `mutagrad.diagnostics.regime` tell of
    slope, curvature and s is therefore too large: on a linear loss s was 0.64 in place of 0.04. Ask `mutagrad.diagnose`.
    Candidates are evaluated one after another: on an accelerator a part must fill the device. An Optax loop
    (`mutagrad.as_gradient_transformation`) passes no batch and cannot have it; another ``evaluation`` of `mutagrad.evolve`
    takes its place.

    Raises
    ------
    ValueError : if the rule takes others than the one best, the algorithm is wrapped already, ``error`` is no probability below
        0.5, or ``part_size`` is below 32. When run, if the loss has no batch, or not one loss per example.

    Source: theory.md 8.5, derived for this project; racing is due to Maron and Moore 1994, sequential tests of a decision on a
    batch to Korattikara, Chen and Welling 2014 (arXiv 1304.5299).

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> targets = 0.1 * jax.random.normal(jax.random.key(1), (10_000, 5))
    >>> loss_fn = lambda x, batch: jnp.sum((x - batch) ** 2, axis=1)
    >>> algorithm = mutagrad.early_rejection(mutagrad.elitist(sigma=0.1, num_offspring=20))
    >>> batches = mutagrad.minibatches(targets)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(5), loss_fn, 20, batches, progress=False)
    >>> bool(result.history["num_examples"].mean() < 3000)
    True
    """
    definition = check.algorithm(algorithm).definition
    if isinstance(definition, UnknownDefinition) or definition.sigma is None:
        raise ValueError(
            "algorithm: got one that is wrapped already; reject early inside: "
            "mutagrad.adapt_sigma(mutagrad.early_rejection(mutagrad.elitist(…)))"
        )
    rule = definition.selection.law
    if not (isinstance(rule, law.OrderStatistic) and rule.num_winners == 1):
        raise ValueError(
            f"algorithm: got {definition.selection.name} selection, which needs the losses of offspring that do not win; "
            "early rejection is for mutagrad.elitist and mutagrad.comma"
        )
    number = check.count("part_size", part_size, 32, "pass 32 or more, so that the mean of a part is nearly normal")
    error = check.error_probability(error)
    name = f"early rejection with error {error} in parts of {number}"
    evaluator = Evaluator(Rejecting(error, number, rule.keeps_parent).losses, name=name)
    return assemble(definition._replace(evaluation=evaluator))
