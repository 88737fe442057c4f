"""What a loss landscape says of itself, in sentences."""

import math

import numpy as np

from mutagrad.diagnostics import describe
from mutagrad.diagnostics.landscape import Flatness, MutationalEffects, Robustness, UpdateAngles
from mutagrad.diagnostics.landscape.comparison import LEVEL
from mutagrad.estimate import Estimate
from mutagrad.report.text.numbers import about, number, percent, percent_about, table

__all__ = ["effects_text", "flatness_text", "robustness_text", "update_angles_text"]

_DIRECTIONS = {
    "filter": "each filter as long as the params' own",
    "leaf": "each leaf as long as the params' own",
    "none": "of length 1",
}
_VECTORS = {"zero": "biases and other vectors stay", "leaf": "vectors as long as the params' own", "entry": ""}


def _examples(count: int) -> str:
    return f" on {count:,} examples" if count > 1 else ""


@describe.register
def flatness_text(found: Flatness) -> str:
    """How the loss rises around the params.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import flatness
    >>> params = {"weight": jnp.ones((4, 25)), "bias": jnp.ones(4)}
    >>> found = flatness(jax.random.key(0), lambda params: 1 + jnp.sum(params["weight"]), params)
    >>> print(str(found).partition(" At")[0].partition("At")[0].strip())
    The loss is 101.
    5 random directions move 100 of 104 parameters, each filter as long as the params' own; biases and other vectors stay.
    """
    how = _DIRECTIONS[found.normalize]
    if found.normalize == "filter" and found.num_moved < found.num_parameters:
        how += f"; {_VECTORS['zero']}"
    middle = len(found.distances) // 2
    farthest = Estimate(found.rises.value[-1], found.rises.error[-1])
    moved = f"{found.num_moved:,} of {found.num_parameters:,} parameters"
    unit = "" if found.normalize != "none" else " [parameter]"
    scale = "" if found.normalize == "none" else " (1 is a step as long as the params)"
    lines = [
        f"The loss is {number(found.loss)}{_examples(found.num_examples)}.",
        f"{found.num_directions} random directions move {moved}, {how}.",
        f"At distance {number(found.distances[-1])}{unit}{scale} it is higher by {about(farthest)} in the mean of both sides.",
        f"Curvature along them is {about(found.curvature)} {found.curvature.unit}, from steps of "
        f"{number(found.distances[middle + 1])}.",
    ]
    if math.isnan(found.width.value):
        lines.append("The loss is 0 here, so pass rise= to say how far it takes to rise.")
    elif math.isinf(found.width.value):
        lines.append(f"As far as was looked it does not rise by {number(found.rise)}.")
    else:
        lines.append(f"It has risen by {number(found.rise)} at distance {about(found.width)}.")
    if found.num_directions == 1:
        lines.append("One direction has no error; pass more.")
    if found.num_failed:
        lines.append(
            f"{found.num_failed:,} of {found.num_evaluations:,} points failed (NaN or infinite) and are left out, so that "
            "the loss rises by more than these numbers say."
        )
    return "\n".join(lines)


@describe.register
def effects_text(found: MutationalEffects) -> str:
    """How mutations change the loss.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import mutational_effects
    >>> found = mutational_effects(jax.random.key(0), lambda x: jnp.sum(x**2) / 2, jnp.ones(100), 0.2, num_mutations=200)
    >>> print(str(found)[:55])
    Of 200 mutations of 100 parameters, σ = 0.2, 17.5 ± 2.7
    """
    where = f"{found.num_mutated:,} parameters{_examples(found.num_examples)}"
    lines = [
        f"Of {len(found.changes):,} mutations of {where}, σ = {number(found.sigma)}, {percent_about(found.beneficial)} lower the "
        f"loss of {number(found.loss)}."
    ]
    others = [
        f"{percent(share.value)} {what}"
        for share, what in ((found.neutral, "leave it exactly as it is"), (found.failed, "fail (NaN or infinite)"))
        if share.value > 0
    ]
    if others:
        lines.append(f"{' and '.join(others)}.")
    if math.isfinite(found.strength.value):
        told = abs(found.excess.value) > 2 * found.excess.error
        verdict = "so losses are not normal here" if told else "as normal losses have it"
        apart = about(Estimate(100 * found.excess.value, 100 * found.excess.error))
        lines.append(
            f"s = {about(found.strength)}, from the same losses, predicts Φ(−s/2) = {percent_about(found.predicted)}: the "
            f"difference is {apart} points, {verdict}."
        )
    lines.append(_pareto(found))
    if found.accuracy is not None and found.accuracy_changes is not None:
        lines.append(_accuracy(found.accuracy, found.accuracy_changes, found.changes))
    return "\n".join(lines)


def _accuracy(accuracy: float, accuracy_changes: np.ndarray, changes: np.ndarray) -> str:
    kept = np.isfinite(accuracy_changes)
    if not kept.any():
        return f"Accuracy is {percent(accuracy)}, and of no mutant a number."
    better = accuracy_changes[kept & (changes < 0)]
    mean, spread = (number(100 * float(one)) for one in (accuracy_changes[kept].mean(), accuracy_changes[kept].std()))
    text = (
        f"Accuracy is {percent(accuracy)}. Mutations change it by {mean} points in the mean, with a spread of {spread}"
    )
    return text + (
        f"; those that lower the loss change it by {number(100 * float(better.mean()))}." if len(better) else "."
    )


def _pareto(found: MutationalEffects) -> str:
    fit = found.pareto
    if fit is None:
        return "Fewer than ten beneficial mutations differ: there is no law to fit to their effects. Evaluate more mutations."
    low, high = fit.interval
    where = f" above {number(fit.threshold)}" if fit.threshold > 0 else ""
    text = (
        f"The {fit.number:,} beneficial effects{where} follow a generalised Pareto law of shape ξ = {fit.shape.value:.2f} "
        f"({low:.2f} to {high:.2f} at {percent(fit.level)}) and scale {about(fit.scale)}"
    )
    if low <= 0 <= high:
        text += ": exponential effects, ξ = 0, are not excluded."
    else:
        text += f": not exponential, ξ is {'below' if high < 0 else 'above'} 0."
    if math.isfinite(found.normal_shape):
        inside = "within" if low <= found.normal_shape <= high else "outside"
        text += f" As many effects of normal losses of this s have {found.normal_shape:.2f}, {inside} the interval."
    return text


@describe.register
def update_angles_text(found: UpdateAngles) -> str:
    """At which angles updates stand.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import update_angles
    >>> found = update_angles(jax.random.key(0), lambda x: jnp.sum(x), jnp.zeros(100), sigma=0.1, num_mutations=400)
    >>> print(str(found).splitlines()[0])
    48.2 ± 2.5 % of mutations of 100 parameters, σ = 0.1, improve.
    """
    lines = []
    if found.batches:
        lines.append("Gradients of minibatches, beside that of all the data [degree]:")
        rows = [["batch", "angle", "by theory"]]
        rows += [[f"{one.batch_size:,}", about(one.angle), about(one.predicted_angle)] for one in found.batches]
        lines.append(table(rows))
    lines.append(
        f"{percent_about(found.beneficial)} of mutations of {found.num_mutated:,} parameters, σ = {number(found.sigma)}, improve."
    )
    if found.comparison is None:
        lines.append("Too few improve to compare their angles. Evaluate more mutations.")
        return "\n".join(lines)
    one = found.comparison
    seen = "are told from" if one.p_value < LEVEL else "are not told from"
    lines.append(
        f"Cosine of two improving mutations: {about(found.improving)}, by theory {number(found.predicted)}. Their angles {seen} "
        f"those of random ones (Kolmogorov–Smirnov, {one.num_pairs:,} pairs, p = {number(one.p_value)}). The test finds such a "
        f"difference in {percent(one.power)} of cases; for 90 % it needs {number(float(f'{one.num_needed:.2g}'))} pairs."
    )
    if found.means:
        lines.append("Cosine of the mean of k improving mutations with −∇U:")
        rows = [["k", "cosine", "by theory"]]
        rows += [[f"{one.number:,}", about(one.cosine), number(one.predicted)] for one in found.means]
        lines.append(table(rows))
    else:
        lines.append("There is no gradient here to hold them against.")
    return "\n".join(lines)


@describe.register
def robustness_text(found: Robustness) -> str:
    """How a score falls under corruption.

    >>> import jax, jax.numpy as jnp
    >>> from mutagrad.diagnostics.landscape import robustness
    >>> found = robustness(jax.random.key(0), lambda params, inputs: inputs.mean(axis=1), None, jnp.ones((200, 50)))
    >>> print(str(found).splitlines()[1])
    corruption              0.1             0.25              0.5
    """
    rows = [["corruption", *(number(level) for level in found.levels)]]
    for place, name in enumerate(found.names):
        cells = []
        for step in range(len(found.levels)):
            errors = found.scores.error[place, step], found.draw_errors[place, step]
            error = math.sqrt(np.nansum(np.square(errors))) if np.isfinite(errors).any() else math.nan
            cells.append(about(Estimate(found.scores.value[place, step], error)))
        rows.append([name, *cells])
    draws = f"{found.num_draws} draws" if found.num_draws > 1 else "one draw"
    head = (
        f"The score is {about(found.clean)} without corruption{_examples(found.num_examples)}. With it, at each level, in the "
        f"mean of {draws}; errors are of examples and draws together:"
    )
    return f"{head}\n{table(rows)}"
