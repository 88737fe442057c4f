"""Run by test_devices.py in processes of its own: runs on several devices against runs on one.

Arguments: names of algorithms, and for a run of several processes which one this is, how many there are, and a port.
"""

import os
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad


def loss_fn(params, batch):
    inputs, targets = batch
    return (jnp.tanh(inputs @ params["w"] + params["b"]) @ params["v"] - targets) ** 2


def main(names):
    key = jax.random.key(0)
    inputs = np.asarray(jax.random.normal(jax.random.key(1), (32, 8)))
    data = (inputs, np.tanh(inputs[:, 0]))
    params = {
        "w": np.asarray(jax.random.normal(key, (8, 16))) / 3,
        "b": np.zeros(16, np.float32),
        "v": np.ones(16, np.float32) / 4,
    }
    batches = mutagrad.minibatches(data, 8)

    def run(evaluation, algorithm, number=30, **options):
        return mutagrad.evolve(
            key, algorithm, params, loss_fn, number, batches, evaluation=evaluation, progress=False, **options
        )

    algorithms = {
        "elitist": mutagrad.elitist(0.05, 13),
        "adapted": mutagrad.adapt_sigma(mutagrad.weighted_recombination(0.05, 9)),
        "several parents": mutagrad.truncation(0.05, 12, 3),
        "low rank": mutagrad.elitist(0.05, 7, mutation=mutagrad.mutation.low_rank(1)),
    }
    sharded = mutagrad.sharded()
    assert jax.device_count() > 1
    for name in names.split(","):
        algorithm = algorithms[name]
        on_many = run(sharded, algorithm)
        for leaf in jax.tree.leaves(on_many.params):
            assert leaf.is_fully_replicated
        if jax.process_count() == 1:
            on_one = run("mapped", algorithm)
            jax.tree.map(np.testing.assert_array_equal, on_many.params, on_one.params)
            # The mean over the examples is taken in a program of its own.
            np.testing.assert_allclose(on_many.history["loss"], on_one.history["loss"], rtol=3e-7)
        digest = sum(float(np.sum(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(on_many.params))
        print(name, repr(digest), flush=True)
    if jax.process_count() == 1:
        # Parameters divided among devices too.
        kinds = (jax.sharding.AxisType.Auto,) * 2
        mesh = jax.make_mesh((2, 2), ("offspring", "model"), axis_types=kinds)
        spec = {"w": (None, "model"), "b": ("model",), "v": ("model",)}

        def place(name):
            return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec[name]))

        divided = {name: jax.device_put(leaf, place(name)) for name, leaf in params.items()}
        algorithm = algorithms["elitist"]
        step = jax.jit(
            lambda key, state: algorithm.step(key, state, lambda p: loss_fn(p, data), evaluation=mutagrad.sharded(mesh))
        )
        state, info = step(key, algorithm.init(divided))
        alone, known = algorithm.step(key, algorithm.init(params), lambda p: loss_fn(p, data), evaluation="mapped")
        np.testing.assert_allclose(info.losses, known.losses, rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.params, alone.params)
        assert state.params["w"].sharding.spec == place("w").spec, state.params["w"].sharding
        # A run that goes on from a checkpoint has them where they were.
        with tempfile.TemporaryDirectory() as folder:
            for number in (2, 4):
                result = mutagrad.evolve(
                    *(key, algorithm, divided, loss_fn, number, batches),
                    evaluation=mutagrad.sharded(mesh),
                    progress=False,
                    checkpoint=folder,
                )
                found = result.params["w"].sharding
                assert found.is_equivalent_to(place("w"), 2), found
    # The clock of one process stops all of them.
    late = mutagrad.stop_after(1.5) if jax.process_index() == 0 else mutagrad.stop_after(1000)
    stopped = run(sharded, algorithms["elitist"], 10**6, observers=[late])
    print("stopped", stopped.stopped, int(stopped.state.generation), flush=True)


if __name__ == "__main__":
    names, *process = sys.argv[1:]
    if process:
        which, number, port = process
        jax.distributed.initialize(f"localhost:{port}", int(number), int(which))
    main(names)
    sys.stdout.flush()
    if process:
        # Without waiting for what the other processes have left to say.
        os._exit(0)
