"""Hard attention trained by evolution, beside soft attention and three estimators of its gradient, on images.

The network is `mutagrad.lab.tasks.attention.Attention`. Hard attention reads four squares of an image and nothing else, none of
them twice. Soft attention reads weighted means of all squares. A forward evaluation is one image through the network; a gradient
counts as three. Seconds are of the processor, one thread, without compilation and without looks at other images. Every run is
looked at twenty times, and its network is the one with the lowest loss on validation images: a fifth of the training images. The
test images decide nothing, and are used once, at the end.

Digits: all methods train on images with noise on their pixels. The settings are the best of eight tries a method by validation
loss, with a key of their own (``--tries yes``). Recombination had more: some twenty before, by which the kind of algorithm was
found, and nine after, at all the evaluations. These settings were found where places could be read again and without noise. That
neither is so now was decided by eight variants of the network and of the images, with recombination, keys and splits of the
training images of their own.

MNIST (``--data mnist``): every pixel is the mean of four, so that an image has 14 × 14. The step of every method, σ or learning
rate, falls along a cosine to a twentieth. Evolution has Gumbel noise on its scores in training, the same for all offspring, which
falls alike; with it and without it the network reads by argmax. The settings are the best of four tries a method by validation
loss, of 7.5 million evaluations each. Recombination had some thirty more, of 6 to 24 million, with the same key. They found the
noise, that A and a start at 0 (``first``), that mutations of the last layer are smaller (``answer``), batches of 128, and
the size of the network. Methods that need less than half of the seconds for all the evaluations run once more with as many
evaluations as the seconds allow, and the cosine is as long.
Run with ``python -m benchmarks.attention``; it draws into docs/figures.
"""

import itertools
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import mutagrad
from benchmarks import attention_figure, common
from mutagrad.lab.tasks.attention import Attention
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.losses import cross_entropy
from mutagrad.lab.tasks.models import lecun
from mutagrad.mutation import gaussian, scaled
from mutagrad.selection import normal_scores

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
LOOKS = 20
GRADIENT_COST = 3
"""Forward evaluations that a gradient counts as."""
TRIAL_KEY = 100


class Budget(NamedTuple):
    """Of a run: forward evaluations, and seconds of the processor."""

    evaluations: int
    seconds: float


class Images(NamedTuple):
    """Images and labels for training, validation and test."""

    train: tuple
    validation: tuple
    test: tuple


class Look(NamedTuple):
    """What a look at a run sees: costs so far, validation loss, validation accuracy [%], and the parameters."""

    evaluations: float
    seconds: float
    validation_loss: float
    validation: float
    params: Any


class Method(NamedTuple):
    """A method, the mode of attention that it trains, the settings that were tried, and those of the table.

    A method without tries has settings that follow from those of another.
    """

    run_fn: Callable
    mode: str
    tries: dict[str, tuple]
    settings: dict[str, Any]


class Study(NamedTuple):
    """All that is chosen for one data set.

    ``shape`` of the network; ``pooled``: pixels across that are one pixel here; deviation of the ``noise`` on the training images
    and ``copies`` of each, every one with other noise; ``last``: the step at the end of a run, over that at its start; ``tried``:
    share of the evaluations that a try has; the ``key`` of the table; the ``target`` of points below soft attention.
    """

    budget: Budget
    shape: dict[str, Any]
    pooled: int
    noise: float
    copies: int
    last: float
    tried: float
    key: int
    target: float
    methods: dict[str, Method]


@lru_cache
def images_of(name: str) -> Images:
    study, data, random = STUDIES[name], load(name), np.random.default_rng(1)

    def seen(images: np.ndarray) -> np.ndarray:
        if study.pooled == 1:
            return images
        number, height, width = images.shape
        side = study.pooled
        pools = images.reshape(number, height // side, side, width // side, side)
        return 1 + np.mean(pools, axis=(2, 4), dtype=np.float32)  # blank paper is 0

    order = np.random.default_rng(0).permutation(len(data.train_targets))
    inputs, labels = seen(data.train_inputs)[order], data.train_targets[order]
    first = len(order) * 4 // 5
    shape = (study.copies, *inputs[:first].shape)
    if study.noise:
        noisy = inputs[:first] + study.noise * random.standard_normal(shape)
    else:
        noisy = np.broadcast_to(inputs[:first], shape)
    train = (noisy.astype(np.float32).reshape(-1, *shape[2:]), np.tile(labels[:first], study.copies))
    parts = (train, (inputs[first:], labels[first:]), (seen(data.test_inputs), data.test_targets))
    return Images(*(tuple(jnp.asarray(array) for array in part) for part in parts))


def start(name: str, key: jax.Array, mode: str = "hard", temperature: float = 1.0) -> tuple[Any, Any]:
    """Parameters and the rest of a network."""
    network = Attention(key, **STUDIES[name].shape, mode=mode, temperature=temperature)
    params, static = eqx.partition(network, eqx.is_array)
    return lecun(params), static


def fallen(last: float, share: Any) -> Any:
    """By what a step is multiplied after this share of a run: a cosine from 1 to ``last``."""
    return last + (1 - last) * (1 + jnp.cos(jnp.pi * jnp.minimum(share, 1))) / 2


@lru_cache
def measure_fn(name: str, mode: str, temperature: float) -> Callable:
    """Loss and accuracy of parameters on images."""
    static = start(name, jax.random.key(0), mode, temperature)[1]

    @jax.jit
    def measure(params: Any, part: tuple) -> tuple[jax.Array, jax.Array]:
        logits = eqx.combine(params, static)(part[0])
        return jnp.mean(cross_entropy(logits, part[1])), 100 * jnp.mean(jnp.argmax(logits, axis=1) == part[1])

    return measure


def looked_at(
    train_fn: Callable, params_fn: Callable, state: Any, measure: Callable, data: Images, budget: Budget
) -> list[Look]:
    """A run in pieces of a twentieth of the budget, until evaluations and seconds are both spent.

    ``train_fn(state, look) -> state, evaluations``; the first piece is run twice, so that compilation is not in the time.
    """
    jax.block_until_ready(train_fn(state, 0)[0])
    found: list[Look] = []
    evaluations = seconds = 0.0
    while evaluations < budget.evaluations * 0.99 or seconds < budget.seconds:
        began = time.process_time()
        state, more = train_fn(state, len(found))
        jax.block_until_ready(state)
        seconds, evaluations = seconds + time.process_time() - began, evaluations + more
        params = params_fn(state)
        loss, accuracy = map(float, measure(params, data.validation))
        found.append(Look(evaluations, seconds, loss, accuracy, params))
    return found


@lru_cache
def adam_piece(name: str, mode: str, temperature: float, batch: int, steps: int) -> Callable:
    """A compiled twentieth of a run of Adam on minibatches."""
    static, optimizer = start(name, jax.random.key(0), mode, temperature)[1], optax.scale_by_adam()

    @jax.jit
    def piece(carry: tuple, train: tuple, key: jax.Array, rate: float, look: int) -> tuple:
        def step(carry: tuple, inputs: tuple) -> tuple:
            (params, state), (key, number) = carry, inputs
            rows_key, own_key = jax.random.split(key)
            rows = jax.random.randint(rows_key, (batch,), 0, len(train[1]))
            part = tuple(array[rows] for array in train)
            gradient = jax.grad(lambda p: jnp.mean(eqx.combine(p, static).losses(*part, own_key)))(params)
            updates, state = optimizer.update(gradient, state, params)
            own = rate * fallen(STUDIES[name].last, (look + number / steps) / LOOKS)
            return (jax.tree.map(lambda p, u: p - own * u, params, updates), state), None

        return jax.lax.scan(step, carry, (jax.random.split(key, steps), jnp.arange(steps)))[0]

    return piece


def by_gradient(
    key: jax.Array,
    name: str,
    data: Images,
    budget: Budget,
    mode: str,
    rate: float,
    temperature: float = 1.0,
    batch: int = 64,
) -> list[Look]:
    """Adam on minibatches."""
    params, _ = start(name, key, mode, temperature)
    steps = round(budget.evaluations / (GRADIENT_COST * batch * LOOKS))
    piece = adam_piece(name, mode, temperature, batch, steps)

    def train(carry: tuple, look: int) -> tuple[tuple, float]:
        return piece(carry, data.train, jax.random.fold_in(key, look), rate, look), GRADIENT_COST * batch * steps

    first = (params, optax.scale_by_adam().init(params))
    return looked_at(train, lambda carry: carry[0], first, measure_fn(name, mode, temperature), data, budget)


class Evolution(NamedTuple):
    """An algorithm, its loss, its batches, and the evaluations of a generation."""

    algorithm: mutagrad.Algorithm
    loss_fn: Callable
    batches: Any
    each: int


@lru_cache
def evolution(
    name: str,
    mode: str,
    make: Callable,
    scores: float,
    batch: int | None,
    noise: float,
    answer: float,
    evaluations: int,
    **settings: Any,
) -> Evolution:
    """The same objects for all keys, so that they compile once."""
    study, (images, labels) = STUDIES[name], images_of(name).train
    if not batch:  # all images: one copy of each
        images, labels = (part[: len(part) // study.copies] for part in (images, labels))
    params, static = start(name, jax.random.key(0), mode)
    scales = eqx.tree_at(lambda m: (m.look, m.preference), jax.tree.map(lambda _: 1.0, params), (scores, scores))
    scales = eqx.tree_at(lambda m: (m.answer.weight, m.answer.bias), scales, (answer, answer))
    algorithm = make(mutation=scaled(scales, gaussian()), **settings)
    candidates = algorithm.ask(jax.random.key(0), algorithm.init(params), is_resampled=batch is not None)
    each = len(candidates) * (batch or len(labels))
    sigma, generations = algorithm.definition.sigma, evaluations / each
    if study.last < 1 and sigma is not None:
        algorithm = mutagrad.schedule_sigma(algorithm, lambda number: sigma * fallen(study.last, number / generations))
    if not noise:
        batches = mutagrad.minibatches((images, labels), batch)
        return Evolution(algorithm, lambda p, part: eqx.combine(p, static).losses(*part), batches, each)

    def draw(key: jax.Array, generation: jax.Array) -> tuple:
        rows_key, own_key = jax.random.split(key)
        rows = jax.random.randint(rows_key, (batch,), 0, len(labels))
        return images[rows], labels[rows], own_key, noise * fallen(study.last, generation / generations)

    def noisy(params: Any, part: tuple) -> jax.Array:
        """With Gumbel noise on the scores, the same for all offspring: argmax(c + τg) is argmax(c/τ + g)."""
        inputs, targets, key, level = part
        parts = (params.look / level, params.preference / level)
        network = eqx.combine(eqx.tree_at(lambda m: (m.look, m.preference), params, parts), static)
        return cross_entropy(network(inputs, key), targets)

    return Evolution(algorithm, noisy, draw, each)


def by_evolution(
    key: jax.Array,
    name: str,
    data: Images,
    budget: Budget,
    mode: str,
    make: Callable,
    scores: float,
    batch: int | None,
    noise: float = 0.0,
    first: float = 1.0,
    answer: float = 1.0,
    **settings: Any,
) -> list[Look]:
    """`mutagrad.generations`; mutations of what scores are made of, A and a, are ``scores`` times as large as the others.

    With ``noise`` the scores have Gumbel noise of this scale, which falls as σ does. A and a start ``first`` times as large.
    """
    params, _ = start(name, key, mode)
    params = eqx.tree_at(lambda m: (m.look, m.preference), params, replace_fn=lambda leaf: first * leaf)
    algorithm, loss_fn, batches, each = evolution(
        name, mode, make, scores, batch, noise, answer, budget.evaluations, **settings
    )
    number = round(budget.evaluations / (each * LOOKS))

    def train(state: Any, look: int) -> tuple[Any, float]:
        run = mutagrad.generations(key, algorithm, state, loss_fn, number, batches=batches, evaluation="vectorized")
        for chunk in run:
            state = chunk.state
        return state, each * number

    measure = measure_fn(name, mode, 1.0)
    return looked_at(train, lambda state: state.params, algorithm.init(params), measure, data, budget)


def recombination(mutation: Any, sigma: float, step: float, num_offspring: int = 60) -> mutagrad.Algorithm:
    """Normal scores as weights, scaled so that a step is as long as ``step`` mutations."""
    weights = np.asarray(normal_scores(num_offspring))
    weights = weights * step / np.sqrt(np.sum(weights**2))
    return mutagrad.weighted_recombination(sigma, num_offspring, weights, mutation=mutation)


def elitist(mutation: Any, num_offspring: int) -> mutagrad.Algorithm:
    return mutagrad.adapt_sigma(mutagrad.elitist(0.01, num_offspring, mutation=mutation))


def evolved(make: Callable, batch: int | None) -> Callable:
    def run(*args: Any, **settings: Any) -> list[Look]:
        return by_evolution(*args, make=make, **{"batch": batch, **settings})

    return run


MAIN, SOFT, START = "evolution, recombination", "soft attention, Adam", "evolution, A and a as at the start"
STILL = "Adam, A and a as at the start"
ONE = "evolution, (1+M), automatic σ"
STRAIGHT, GUMBEL, REINFORCE = "straight-through, Adam", "Gumbel-softmax, Adam", "REINFORCE, Adam"
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
BY_RATE: dict[str, tuple] = {"rate": RATES, "temperature": (0.3, 1.0)}
FEWER: dict[str, tuple] = {"rate": (3e-3, 1e-2), "temperature": (0.3, 1.0)}
RECOMBINED, ELITIST = evolved(recombination, 256), evolved(elitist, None)


_DIGITS = {
    MAIN: Method(
        RECOMBINED,
        "hard",
        {"sigma": (0.03, 0.05), "step": (0.3, 0.6), "scores": (0.1, 0.3)},
        {"sigma": 0.05, "step": 0.2, "scores": 0.3},
    ),
    ONE: Method(
        ELITIST,
        "hard",
        {"num_offspring": (8, 20), "scores": (0.03, 0.1, 0.3, 1.0)},
        {"num_offspring": 20, "scores": 0.3},
    ),
    SOFT: Method(by_gradient, "soft", BY_RATE, {"rate": 0.03, "temperature": 1.0}),
    STRAIGHT: Method(by_gradient, "straight_through", BY_RATE, {"rate": 0.03, "temperature": 0.3}),
    GUMBEL: Method(by_gradient, "gumbel", BY_RATE, {"rate": 0.01, "temperature": 1.0}),
    REINFORCE: Method(by_gradient, "reinforce", {"rate": RATES, "batch": (64, 256)}, {"rate": 0.001, "batch": 256}),
}
_MNIST = {
    MAIN: Method(
        RECOMBINED,
        "reinforce",
        {"step": (0.3, 0.5), "noise": (0.3, 0.5)},
        {"sigma": 0.05, "step": 0.3, "scores": 1.0, "noise": 0.2, "first": 0.0, "answer": 0.3, "batch": 128},
    ),
    ONE: Method(
        ELITIST,
        "reinforce",
        {"batch": (512, 4096), "noise": (0.0, 0.5)},
        {"num_offspring": 20, "scores": 1.0, "noise": 0.5, "batch": 4096},
    ),
    SOFT: Method(by_gradient, "soft", FEWER, {"rate": 0.01, "temperature": 1.0, "batch": 256}),
    STRAIGHT: Method(by_gradient, "straight_through", FEWER, {"rate": 0.01, "temperature": 1.0, "batch": 256}),
    GUMBEL: Method(by_gradient, "gumbel", FEWER, {"rate": 0.01, "temperature": 1.0, "batch": 256}),
    REINFORCE: Method(by_gradient, "reinforce", {"rate": RATES}, {"rate": 0.003, "batch": 256}),
}
"""The mode "reinforce" of evolution is for its draws in training; nothing of its gradient is used, and without a key it reads as
"hard"."""


def ordered(methods: dict[str, Method], **others: Method) -> dict[str, Method]:
    """With the methods that have nothing to try: START, whose scores are not mutated, behind MAIN, and others at the end."""
    still = {name: value for name, value in methods[MAIN].settings.items() if name not in ("noise", "first")}
    found = {MAIN: methods[MAIN], START: methods[MAIN]._replace(tries={}, settings={**still, "scores": 1e-6})}
    return {**found, **{name: method for name, method in methods.items() if name != MAIN}, **others}


STUDIES = {
    "digits": Study(
        budget=Budget(24_000_000, 8.0),
        shape={"image_shape": (8, 8), "glimpse": 3, "reread": False},
        pooled=1,
        noise=0.3,
        copies=9,
        last=1.0,
        tried=1 / 6,
        key=2027,
        target=2.0,
        methods=ordered(_DIGITS),
    ),
    "mnist": Study(
        budget=Budget(20_000_000, 10.0),
        shape={"image_shape": (14, 14), "glimpse": 5, "num_hidden": 16, "reread": False},
        pooled=2,
        noise=0.0,
        copies=1,
        last=0.05,
        tried=7.5 / 20,
        key=61511,
        target=3.0,
        # The gradient of what reads as "hard" is zero for A and a, so that they stay.
        methods=ordered(
            _MNIST,
            **{STILL: Method(by_gradient, "hard", {}, {"rate": 0.01, "batch": 256})},
        ),
    ),
}
"""The settings of the table are registered before its run. For START and STILL nothing was tried: the scores follow what was
read, by weights that nobody trained. They show what training them is worth. The target: MAIN is so many points below SOFT at
most, in the mean of the test accuracies at equal evaluations."""


def best(looks: list[Look]) -> Look:
    return min(looks, key=lambda look: look.validation_loss)


def tries(name: str, data: Images, only: str) -> None:
    """Print what every setting reaches on the validation images with a share of the evaluations."""
    study = STUDIES[name]
    small = Budget(round(study.budget.evaluations * study.tried), 0.0)
    for method, (run_fn, mode, options, settings) in study.methods.items():
        if only not in method:
            continue
        for values in itertools.product(*options.values()) if options else ():
            own = {**settings, **dict(zip(options, values, strict=True))}
            looks = run_fn(jax.random.key(TRIAL_KEY), name, data, small, mode, **own)
            look = best(looks)
            print(
                f"{method} {own}: {look.validation_loss:.3f} nat, {look.validation:.1f} %, {looks[-1].seconds:.1f} s",
                flush=True,
            )


def within(looks: list[Look], budget: Budget, by: str) -> Look:
    """The network that a run has to show for its evaluations or seconds."""
    limit = getattr(budget, by) * 1.03  # pieces are whole numbers of generations or steps
    return best([look for look in looks if getattr(look, by) <= limit] or looks[:1])


def spread(values: list[float], digits: int = 1) -> str:
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def reading(network: Any, images: jax.Array) -> tuple[float, float]:
    """Where a network looks: the share of all ink that it reads [%], and of glimpses at the place that most images have [%]."""
    places, inside = np.asarray(network.places(images)), np.arange(network.glimpse)
    read = np.zeros(images.shape, bool)
    every = np.arange(len(images))[:, None, None]
    for row, column in np.moveaxis(places, 1, 0).transpose(0, 2, 1):
        read[every, row[:, None, None] + inside[:, None], column[:, None, None] + inside] = True
    ink = np.asarray(images) - np.min(np.asarray(images))
    place = places[..., 0] * 1000 + places[..., 1]
    common_share = [np.max(np.unique(one, return_counts=True)[1]) / len(one) for one in place.T]
    return float(100 * np.sum(ink * read) / np.sum(ink)), float(100 * np.mean(common_share))


def main() -> None:
    args = common.arguments(__doc__, repetitions=3, key=0, data="digits", only="", tries="no", figure="yes")
    study = STUDIES[args.data]
    budget, data = study.budget, images_of(args.data)
    if args.tries != "no":
        tries(args.data, data, args.only)
        return
    rows, results, networks = [], {}, {}
    keys = [jax.random.fold_in(jax.random.key(args.key or study.key), number) for number in range(args.repetitions)]
    for method, (run_fn, mode, _, settings) in study.methods.items():
        if args.only not in method:
            continue
        # Without a schedule a run just goes on until the seconds are spent.
        is_scheduled = study.last < 1
        own = budget._replace(seconds=0.0) if is_scheduled else budget
        runs = [run_fn(key, args.data, data, own, mode, **settings) for key in keys]
        ends = [within(looks, budget, "evaluations") for looks in runs]
        count = len([1 for look in runs[0] if look.evaluations <= budget.evaluations * 1.03])
        seconds = [looks[count - 1].seconds for looks in runs]
        longer = runs
        if is_scheduled and 2 * np.mean(seconds) < budget.seconds:
            more = Budget(round(budget.evaluations * budget.seconds / float(np.mean(seconds))), 0.0)
            longer = [run_fn(key, args.data, data, more, mode, **settings) for key in keys]
        timed = [within(looks, budget, "seconds") for looks in longer]
        measure = measure_fn(args.data, mode, settings.get("temperature", 1.0))
        static = start(args.data, keys[0], mode, settings.get("temperature", 1.0))[1]
        networks[method] = [eqx.combine(look.params, static) for look in ends]
        results[method] = [float(measure(look.params, data.test)[1]) for look in ends]
        texts = [
            spread(results[method]),
            spread([float(measure(look.params, data.test)[1]) for look in timed]),
            spread([look.validation for look in ends]),
            spread(seconds),
        ]
        if is_scheduled:
            texts.append(f"{np.mean([look.evaluations for look in timed]) / 1e6:.0f}")
        rows.append([method, *texts])
        print(rows[-1], file=sys.stderr, flush=True)
        if mode == "soft":
            hardened = [one.with_mode("hard") for one in networks[method]]
            found = [float(100 * jnp.mean(jnp.argmax(one(data.test[0]), 1) == data.test[1])) for one in hardened]
            rows.append(["… its argmax read in place of its weights", spread(found), *[""] * (len(texts) - 1)])
    head = [
        "method",
        f"test accuracy [%] after {budget.evaluations / 1e6:.0f} million evaluations",
        f"… after {budget.seconds:.0f} s",
        "validation accuracy [%]",
        f"seconds of {budget.evaluations / 1e6:.0f} million evaluations",
        *(["million evaluations of the second column"] if study.last < 1 else []),
    ]
    sections = [common.table(head, rows), described(args, study, data)]
    if all(method in results for method in (MAIN, SOFT)):
        gap = np.mean(results[SOFT]) - np.mean(results[MAIN])
        sections.append(
            f"Target, registered before the run: {MAIN} within {study.target} points of {SOFT} at equal evaluations. It is "
            f"{gap:.1f} points below: {'reached' if gap <= study.target else 'not reached'}."
        )
    if study.last < 1:
        sections.append(where(args.data, keys, networks, study, data))
    if args.figure == "yes" and all(method in networks for method in (MAIN, SOFT, GUMBEL)):
        path = FIGURES / ("hard_attention.png" if args.data == "digits" else f"hard_attention_{args.data}.png")
        others = {} if args.data == "digits" else {"Gumbel-softmax": networks[GUMBEL][0]}
        attention_figure.draw(path, networks[MAIN][0], networks[SOFT][0], data.test, study.shape["glimpse"], others)
    name = "attention" if args.data == "digits" else f"attention_{args.data}"
    common.report(name, sections, args, "one key after another")


def described(args: Any, study: Study, data: Images) -> str:
    """Images and settings."""
    noise = (
        f", in {study.copies} copies with noise of deviation {study.noise} of pixels from -1 to 1"
        if study.noise
        else ""
    )
    pooled = f" Every pixel is the mean of {study.pooled**2}, from 0 (paper) to 2." if study.pooled > 1 else ""
    size = sum(leaf.size for leaf in jax.tree.leaves(start(args.data, jax.random.key(0))[0]))
    return (
        f"Mean (min to max) of {args.repetitions} keys, from key {args.key or study.key}. {args.data}: "
        f"{len(data.train[1]) // study.copies:,} images to train with{noise}, {len(data.validation[1]):,} to choose the look, "
        f"{len(data.test[1]):,} to test.{pooled} The network has {size:,} parameters. Settings: "
        + "; ".join(f"{name} {method.settings}" for name, method in study.methods.items())
        + ". Batches of 64 for gradients unless said, of 256 for recombination of 60 offspring, all images for (1+M) unless said."
    )


def where(name: str, keys: list, networks: dict[str, list], study: Study, data: Images) -> str:
    """Where the networks look that read as hard attention does."""
    first = {"at the start of all": [eqx.combine(*start(name, key)) for key in keys]}
    found = []
    for method, several in {**first, **networks}.items():
        if method != SOFT:
            ink, commonest = zip(*(reading(one.with_mode("hard"), data.test[0]) for one in several), strict=True)
            found.append([method, spread(ink), spread(commonest)])
    head = ["network", "ink that is read [%]", "glimpses at the place that most images have [%]"]
    return "Where they look, on the test images:\n\n" + common.table(head, found)


if __name__ == "__main__":
    main()
