"""What a finished run says of itself: how well it did, in which regime it was, and which gradient descent it was."""

import math
from typing import Any

import numpy as np

from mutagrad import mutation, theory, tree
from mutagrad.algorithms import mutation_selection
from mutagrad.diagnostics import Regime
from mutagrad.diagnostics.findings import Finding
from mutagrad.diagnostics.looks import last_held
from mutagrad.diagnostics.verdicts import findings
from mutagrad.estimate import Estimate
from mutagrad.lab.training import kind
from mutagrad.lab.training.algorithm import num_shared_layers, num_turn_generations, num_unit_groups
from mutagrad.lab.training.options import TrainConfig
from mutagrad.lab.training.problem import Problem
from mutagrad.lab.training.regime import last_thirds
from mutagrad.report.text.numbers import percent, percent_about
from mutagrad.report.text.regime import strength_words
from mutagrad.run.evolve import Result
from mutagrad.run.signals import NAMES
from mutagrad.theory.moments import sees_ranks_only
from mutagrad.types import Algorithm, Definition

__all__ = ["batches", "drift_per_sigma", "outcome", "sentences"]


def drift_per_sigma(definition: Definition) -> float | None:
    """The learning rate, in units of σ, of the normalised gradient descent that an algorithm amounts to at small σ.

    c_M for (1+M), E[Z_(M)] for (1,M), its mean over the K best for truncation, Σ w_k E[Z_(k)] for weighted recombination;
    ``None`` for rules at finite β, whose drift also depends on βσ|∇U|.
    """
    if not sees_ranks_only(definition):
        return None
    return float(theory.learning_rate(_of_unit_sigma(definition), "normalized"))


def _of_unit_sigma(definition: Definition) -> Algorithm:
    """The algorithm with gaussian mutations of σ = 1, so that its laws are in units of σ."""
    return mutation_selection(mutation.gaussian(), definition.selection, definition.num_offspring, sigma=1.0)


def _regime(found: Regime, definition: Definition) -> dict[str, Any]:
    """s and its verdict, σ, and the shares of beneficial mutations, measured and predicted, as `findings` has them.

    ``learning_rate`` is c_Mσ. ``not_told`` says why an s has no verdict. ``curvature_cost`` is there where the verdict is held
    against a law: the share of the drift's gain that curvature takes.
    """
    said = {one.name: one for one in findings(found)}
    s, best = said["normalised mutation strength"], said.get("best mutation scale")
    cost, share = said.get("share that curvature takes"), found.validated_share
    told: dict[str, Any] = {
        "sigma": float(found.sigma.value),
        "normalized_mutation_strength": float(s.estimate.value),
        "normalized_mutation_strength_error": float(s.estimate.error),
        "verdict": s.follows,
        "not_told": best.follows if best is not None and math.isnan(best.estimate.value) else "",
        "success": float(found.success.value),
        "predicted_success": float(found.predicted_success.value),
        "number": int(found.number),
        "kind": found.kind,
    }
    if math.isfinite(share.value) and math.isfinite(share.error):
        told |= {"validated_share": float(share.value), "validated_share_error": float(share.error)}
    drift = drift_per_sigma(definition)
    if drift:
        told["learning_rate"] = drift * told["sigma"]
    if cost is not None:
        told |= {"curvature_cost": float(cost.estimate.value), "curvature_cost_error": float(cost.estimate.error)}
    return told


def outcome(
    config: TrainConfig, problem: Problem, run: Result, measured: dict[str, list], seconds: float
) -> dict[str, Any]:
    """What a run came to, as config.json holds it; the kind of loss is "" below 500 generations.

    Parameters
    ----------
    config, problem : what was run. run : its end. measured : the columns of `Measurements`. seconds : of this sitting.
    """
    task, history, data = problem.task, run.history, problem.task.data
    train = task.measure_fn(run.params, data.train_inputs, data.train_targets)
    name = task.score_name
    found = {} if history is None else last_thirds(history, config)
    recorded = np.zeros(0, int) if history is None else np.unique(history["num_examples"])
    # Generations that were lost to damage are 0 in the history.
    sizes = [int(size) for size in recorded if size > 0] or problem.batches.sizes
    sigma = math.nan if history is None else last_held(history["sigma"])
    return {
        f"test_{name}": measured[f"test_{name}"][-1],
        f"train_{name}": train.score,
        "test_loss": measured["test_loss"][-1],
        "train_loss": train.loss,
        "generations": int(run.state.generation),
        "evaluations": run.num_evaluations,
        "batch_sizes": [min(sizes), max(sizes)],
        "num_parameters": tree.size(run.params),
        "num_examples": [len(data.train_targets), len(data.test_targets)],
        "classes": None if data.classes is None else len(data.classes),
        "labels": data.labels,
        "seconds": seconds,
        "stopped": NAMES.get(run.stopped, run.stopped),
        "drift": drift_per_sigma(problem.definition),
        "inputs": problem.inputs.words,
        "shared_layers": num_shared_layers(config),
        "shared_generations": config.shared_generations,
        "unit_groups": num_unit_groups(config, len(data.train_targets)),
        "turn_generations": num_turn_generations(config),
        "num_nonfinite": 0 if history is None else int(history["num_nonfinite"].sum()),
        "loss_kind": kind.kind_words(kind.met(problem, run), sigma),
        "regime": {name: _regime(one, problem.definition) for name, one in found.items()},
    }


def batches(outcome: dict[str, Any]) -> str:
    """How large the batches were.

    >>> from mutagrad.lab.training.summary import batches
    >>> batches({"batch_sizes": [2048, 8192]})
    'batches of 2,048 to 8,192'
    """
    smallest, largest = outcome["batch_sizes"]
    return f"batches of {largest:,}" if smallest == largest else f"batches of {smallest:,} to {largest:,}"


def sentences(outcome: dict[str, Any]) -> str:
    """The closing summary of a run as text."""
    train, test = outcome["num_examples"]
    if outcome["classes"] is None:
        lines = [
            f"test R²          {outcome['test_r2']:.4f}   (training {outcome['train_r2']:.4f})",
            f"test error       {outcome['test_loss']:.4g} root mean square, in the unit of the target   "
            f"(training {outcome['train_loss']:.4g})",
        ]
        kind = "regression"
    else:
        lines = [
            f"test accuracy    {100 * outcome['test_accuracy']:.2f} %   (training {100 * outcome['train_accuracy']:.2f} %)"
        ]
        kind = f"{outcome['classes']:,} classes, labelled {outcome['labels']}"
    lines += [
        f"cost             {outcome['generations']:,} generations, {outcome['evaluations']:,} loss evaluations on "
        f"{batches(outcome)}, {outcome['seconds']:.1f} s",
        f"data             {train:,} examples to train on, {test:,} to test with; {kind}",
        f"inputs           {outcome['inputs']}",
    ]
    lines += _turns(outcome)
    for name, measured in outcome["regime"].items():
        lines += [f"of {name}"] * bool(name) + _of_regime(measured, outcome["drift"])
    if outcome.get("loss_kind"):
        lines.append(f"loss             {outcome['loss_kind']}")
    if not outcome["regime"]:
        lines.append("regime           one generation tells none")
    if outcome["num_nonfinite"]:
        lines.append(f"failures         {outcome['num_nonfinite']:,} offspring had a NaN or infinite loss, and lost")
    lines.append(f"stopped by       {outcome['stopped']}")
    if outcome.get("not_drawn"):
        lines.append(f"figure           not drawn: {outcome['not_drawn']}")
    return "\n".join(lines)


def _turns(outcome: dict[str, Any]) -> list[str]:
    """Which parts of the network took turns."""
    lines = []
    if outcome["shared_layers"]:
        number, period = outcome["shared_layers"], outcome["shared_generations"] + 1
        lines.append(
            f"layers           the first {number} mutated in one generation of {period}, the others in "
            f"{outcome['shared_generations']}"
        )
    if outcome["unit_groups"] > 1:
        turn = outcome["turn_generations"]
        lines.append(
            f"hidden units     in {outcome['unit_groups']} groups that are mutated in turns"
            + f" of {turn} generations" * (turn > 1)
            + "; what follows is of one of them"
        )
    return lines


def _of_regime(measured: dict[str, Any], drift: float | None) -> list[str]:
    """In which regime the run ended, and which gradient descent it was."""
    strength = measured["normalized_mutation_strength"]
    if math.isnan(strength):
        lines = ["regime           s could not be measured: no offspring's loss told it from its parent's"]
    elif measured["not_told"]:
        lines = [f"regime           not told: {measured['not_told']}"]
    else:
        said = {"normalised mutation strength": _found(measured, "normalized_mutation_strength", measured["verdict"])}
        if "curvature_cost" in measured:
            said["share that curvature takes"] = _found(measured, "curvature_cost")
        lines = [f"regime           {strength_words(said)[:-1]} (last {measured['number']:,} generations)"]
    if not math.isnan(strength):
        predicted = f"; Φ(−s/2) = {percent(measured['predicted_success'])}" * (not measured["kind"])
        lines.append(
            f"                 {percent(measured['success'])} of offspring no worse than their parent{predicted}"
        )
    if "validated_share" in measured:
        real = Estimate(measured["validated_share"], measured["validated_share_error"])
        lines.append(
            f"signal           {percent_about(real)} of what steps gained on their batch was real, by the batch after"
        )
    if "learning_rate" in measured:
        lines.append(
            f"gradient descent normalised, x ← x − {measured['learning_rate']:.3g} ∇U/|∇U| per generation "
            f"(learning rate {drift:.4f} σ, σ = {measured['sigma']:.3g})"
        )
    else:
        lines.append(f"gradient descent depends on βσ|∇U| at finite β (theory.md 1); σ = {measured['sigma']:.3g}")
    return lines


def _found(measured: dict[str, Any], name: str, follows: str = "") -> Finding:
    return Finding(name, Estimate(measured[name], measured[f"{name}_error"]), follows)
