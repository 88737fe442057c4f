"""Whole generations per second, beside evosax's HillClimbing with the same population, loss and data.

Run with ``python -m benchmarks.throughput``.
"""

import jax

import mutagrad
from benchmarks import common
from mutagrad.lab.claims.tanh_nets import shallow_losses

MATRIX = "evosax HillClimbing, matrix form"
PLAIN = "evosax HillClimbing, plain model"
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
        PLAIN: theirs(plain_losses, plain_params, data, number),
        "evosax HillClimbing, our model": theirs(losses, params, data, number),
        "ours, our model": ours(losses, params, data, number),
        "ours, plain model": ours(plain_losses, plain_params, data, number),
        "ours, our model, evolve": common.evolved(mutagrad.elitist(SIGMA, M), params, losses, data, number),
    }


def sine(number: int) -> dict:
    params, losses, data = common.sine_net()

    def own_losses(x, data):
        return shallow_losses(x)

    runs = {
        MATRIX: theirs(losses, params, data, number),
        "evosax HillClimbing, unit by unit": theirs(own_losses, params, data, number),
    }
    for name, loss_fn in (("unit by unit", own_losses), ("matrix form", losses)):
        for again in (True, False):
            runs[f"ours, {name}, reevaluate_parent={again}"] = ours(
                loss_fn, params, data, number, reevaluate_parent=again
            )
        runs[f"ours, {name}, evolve"] = common.evolved(mutagrad.elitist(SIGMA, M), params, loss_fn, data, number)
    return runs


def main() -> None:
    args = common.arguments(__doc__, batch_size=256, convnet_generations=10, sine_generations=300, only="")
    sections = [f"Both make and judge {M} offspring a generation, σ = {SIGMA}; evosax does not evaluate the parent."]
    if args.only in ("", "convnet"):
        rates = common.interleaved(convnet(args.batch_size, args.convnet_generations), args.repetitions)
        sections += [
            f"## ConvNet, 9854 parameters, batch of {args.batch_size}, scans of {args.convnet_generations} generations",
            f'The model is {common.CONVNET}; "plain" is Equinox\'s Conv2d and MaxPool2d, vmapped over the batch.',
            "The plain model is what a reader of either library's documentation writes; ours (matrix products of patches) is "
            "part of `mutagrad.lab`, and evosax gains as much from it, since a generation of either is 20 forward passes.",
            common.rate_table(rates, PLAIN),
        ]
    if args.only in ("", "sine"):
        rates = common.interleaved(sine(args.sine_generations), args.repetitions)
        sections += [
            f"## Net of 90 parameters on 1000 points, scans of {args.sine_generations} generations",
            'The matrix form, tanh(θ·slopes + offsets) @ amplitudes, is what a user of either library writes first; "unit by '
            'unit" is `mutagrad.lab.claims.tanh_nets.shallow_losses`, and evosax gains as much from it.',
            common.rate_table(rates, MATRIX),
        ]
    common.report("throughput", sections, args)


if __name__ == "__main__":
    main()
