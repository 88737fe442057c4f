"""Whole generations per second, beside evosax's HillClimbing with the same population, loss and data.

Run with ``python -m benchmarks.throughput``.
"""

import jax

import mutagrad
from benchmarks import common

REFERENCE = "evosax HillClimbing"
M = 20
SIGMA = 0.01


def ours(losses, params, data, number, **options):
    """A run through ``algorithm.step`` in a scan, its cached parent loss filled where there is one."""
    algorithm = mutagrad.elitist(SIGMA, M, **options)
    state = algorithm.init(params, lambda params: losses(params, data))
    return common.looped(common.our_generation(algorithm, losses), state, data, number)


def theirs(losses, params, data, number, map_fn=None):
    generation, state = common.evosax_hill_climbing(params, common.mean_of(losses), SIGMA, M, map_fn)
    return common.looped(generation, state, data, number)


def convnet(batch_size: int, number: int) -> dict:
    data = common.random_images(batch_size)
    params, losses = common.classifier(common.ConvNet(jax.random.key(0)))
    plain_params, plain_losses = common.classifier(common.PlainConvNet(jax.random.key(0)))
    assert mutagrad.tree.size(params) == mutagrad.tree.size(plain_params) == 9854
    return {
        REFERENCE: theirs(losses, params, data, number),
        "ours, step in a scan": ours(losses, params, data, number),
        "ours, step in a scan, reevaluate_parent=False": ours(losses, params, data, number, reevaluate_parent=False),
        "ours, evolve": common.evolved(mutagrad.elitist(SIGMA, M), params, losses, data, number),
        "evosax HillClimbing, lax.map in place of vmap": theirs(losses, params, data, number, jax.lax.map),
        "evosax HillClimbing, plain model": theirs(plain_losses, plain_params, data, number),
        "evosax HillClimbing, plain model, lax.map": theirs(plain_losses, plain_params, data, number, jax.lax.map),
        "ours, plain model, step in a scan": ours(plain_losses, plain_params, data, number),
    }


def sine(number: int) -> dict:
    params, losses, data = common.sine_net()
    runs = {REFERENCE: theirs(losses, params, data, number)}
    for kind, loss_fn in (("vector", losses), ("scalar", common.mean_of(losses))):
        for mode in ("auto", "mapped", "vectorized"):
            for again in (True, False):
                name = f"ours, {kind} loss, {mode}, reevaluate_parent={again}"
                runs[name] = ours(loss_fn, params, data, number, evaluation=mode, reevaluate_parent=again)
        runs[f"ours, {kind} loss, evolve"] = common.evolved(mutagrad.elitist(SIGMA, M), params, loss_fn, data, number)
    return runs


def main() -> None:
    args = common.arguments(__doc__, batch_size=256, convnet_generations=10, sine_generations=300, only="")
    sections = [f"Both make and judge {M} offspring a generation, σ = {SIGMA}; evosax does not evaluate the parent."]
    if args.only in ("", "convnet"):
        rates = common.interleaved(convnet(args.batch_size, args.convnet_generations), args.repetitions)
        sections += [
            f"## ConvNet, 9854 parameters, batch of {args.batch_size}, scans of {args.convnet_generations} generations",
            f'The model is {common.CONVNET}; "plain" is Equinox\'s Conv2d and MaxPool2d, vmapped over the batch.',
            common.rate_table(rates, REFERENCE),
        ]
    if args.only in ("", "sine"):
        rates = common.interleaved(sine(args.sine_generations), args.repetitions)
        sections += [
            f"## Net of 90 parameters on 1000 points, scans of {args.sine_generations} generations",
            common.rate_table(rates, REFERENCE),
        ]
    common.report("throughput", sections, args)


if __name__ == "__main__":
    main()
