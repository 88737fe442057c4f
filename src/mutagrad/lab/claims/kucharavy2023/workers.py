"""A population whose evaluation is spread over workers that exchange seeds, and no parameters; what crosses is counted.

A worker is sent the parent once. From then on a generation is: the key of the generation to every worker; from every worker the
losses of its share of the candidates; the outcome to every worker. For (1+M) that is the index of the winner. For recombination
it is all losses. Every worker then makes the next parent by itself. What crosses is bytes, and they are counted where they cross.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mutagrad
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.models import MLP
from mutagrad.lab.tasks.task import make_task

__all__ = [
    "RULES",
    "Program",
    "Worker",
    "bytes_of_executor",
    "key_of",
    "make_program",
    "next_state",
    "run_over_processes",
    "run_over_workers",
    "to_bytes",
]

RULES = ("(1+M)", "recombination")
KEY_BYTES, INDEX, LOSS = 8, np.dtype(np.int32), np.dtype(np.float32)
"""How keys, indices and losses cross."""
REPORT = b"?"
"""Asks a worker for its parent; no part of the protocol, and not counted."""


class Program(NamedTuple):
    """What all processes know before the first message: the algorithm, the loss and the shapes of the parameters.

    Attributes
    ----------
    algorithm : of mutation and selection. loss_fn : of one candidate, compiled. start : parameters; only a single process and
        the sender of the first message read their values.
    rule : one of `RULES`.
    """

    algorithm: mutagrad.Algorithm
    loss_fn: Callable
    start: Any
    rule: str


def make_program(settings: dict[str, Any], rule: str, width: int, number: int, count: Any = None) -> Program:
    """A network of so many hidden units on the digits, with so many offspring; ``count()`` is called for each mutation made."""
    data, sigma = load("digits"), settings["sigma"]
    task = make_task(data, MLP(jax.random.fold_in(jax.random.key(settings["key"]), width), 64, (width,), 10))
    batch = tuple(jnp.asarray(part[: settings["images"]]) for part in (data.train_inputs, data.train_targets))
    mutation = mutagrad.mutation.gaussian() if count is None else _counted(count)
    if rule == "(1+M)":
        algorithm = mutagrad.elitist(sigma, number, mutation=mutation)
    else:
        weights = np.asarray(mutagrad.selection.normal_scores(number))
        weights = weights / np.sqrt(np.sum(weights**2))
        algorithm = mutagrad.weighted_recombination(sigma, number, weights, mutation=mutation)
    return Program(algorithm, jax.jit(lambda params: jnp.mean(task.loss_fn(params, batch))), task.start, rule)


def _counted(count: Callable[[], None]) -> mutagrad.Mutation:
    right = mutagrad.mutation.gaussian()

    def tick(_: Any) -> np.ndarray:
        count()
        return np.zeros((), np.float32)

    def sample(key: jax.Array, params: Any) -> Any:
        zero = jax.pure_callback(tick, jax.ShapeDtypeStruct((), jnp.float32), jax.random.key_data(key))
        return jax.tree.map(lambda leaf: leaf + zero, right.sample_fn(key, params))

    return right._replace(sample_fn=sample)


def to_bytes(params: Any) -> bytes:
    """Parameters as they are sent: their numbers, leaf after leaf."""
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))


def from_bytes(message: bytes, like: Any) -> Any:
    """Parameters of the shapes of others, from their bytes."""
    leaves, first = [], 0
    for leaf in jax.tree.leaves(like):
        number = leaf.size * leaf.dtype.itemsize
        leaves.append(jnp.asarray(np.frombuffer(message[first : first + number], leaf.dtype).reshape(leaf.shape)))
        first += number
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


class Worker:
    """One of W: it evaluates the candidates w, w + W, … of each generation, and keeps the parent.

    Parameters
    ----------
    program : known to all. start : the first parent's bytes. index, workers : w and W.
    """

    def __init__(self, program: Program, start: bytes, index: int, workers: int):
        self.program, self.index, self.workers = program, index, workers
        self.state = program.algorithm.init(from_bytes(start, program.start))
        self.key: jax.Array | None = None

    def receive(self, message: bytes) -> bytes:
        """The answer to a message: to a key the losses of its share, to an outcome nothing."""
        if message == REPORT:
            return to_bytes(self.state.params)
        if self.key is None:
            self.key = key_of(message)
            offspring = self.program.algorithm.ask(self.key, self.state)
            share = range(self.index, len(offspring), self.workers)
            losses = [np.asarray(self.program.loss_fn(offspring[number])) for number in share]
            return np.array(share, INDEX).tobytes() + np.array(losses).astype(LOSS).tobytes()
        self.state = next_state(self.program, self.key, self.state, message)
        self.key = None
        return b""


def key_of(message: bytes) -> jax.Array:
    """The key of a generation."""
    return jax.random.wrap_key_data(jnp.asarray(np.frombuffer(message, np.uint32)), impl="threefry2x32")


def next_state(program: Program, key: jax.Array, state: Any, outcome: bytes) -> Any:
    """The state after a generation, from its key and its outcome: the winner made again, or all losses told."""
    if program.rule == "(1+M)":
        winner = int(np.frombuffer(outcome, INDEX)[0])
        offspring = program.algorithm.ask(key, state)
        # The parent itself, where none of its offspring won.
        return state if winner < 0 else state.with_params(offspring[offspring.num_before + winner])
    return program.algorithm.tell(key, state, np.frombuffer(outcome, LOSS).astype(np.float32))[0]


def outcome_of(program: Program, key: jax.Array, answers: list[bytes]) -> bytes:
    """What every worker must know, from the losses of all. It needs no parameters: selection sees losses alone."""
    size = INDEX.itemsize + LOSS.itemsize
    numbers, losses = [], []
    for answer in answers:
        middle = len(answer) // size * INDEX.itemsize
        numbers.append(np.frombuffer(answer[:middle], INDEX))
        losses.append(np.frombuffer(answer[middle:], LOSS))
    ordered = np.concatenate(losses)[np.argsort(np.concatenate(numbers))]
    if program.rule == "recombination":
        return ordered.tobytes()
    algorithm = program.algorithm
    winner = algorithm.tell(key, algorithm.init(jnp.zeros(1)), ordered.astype(np.float32))[1].winner
    return np.asarray(winner, INDEX).tobytes()


class Run(NamedTuple):
    """What a run over workers left.

    Attributes
    ----------
    sent : bytes of each generation, both ways. log : key and outcome of each generation. parents : bytes of the parents of all
        workers after each generation, where they were asked for.
    """

    sent: list[int]
    log: list[tuple[bytes, bytes]]
    parents: list[list[bytes]]


def run_over_workers(program: Program, key: jax.Array, number: int, channels: list[Callable], watched: bool) -> Run:
    """A run of so many generations over workers that are reached by channels: ``channel(message) -> answer``."""
    sent, log, parents = [], [], []
    for generation in range(number):
        own = mutagrad.generation_key(key, generation)
        message = np.asarray(jax.random.key_data(own)).tobytes()
        answers = [channel(message) for channel in channels]
        outcome = outcome_of(program, own, answers)
        ends = [channel(outcome) for channel in channels]
        sent.append(sum(map(len, answers + ends)) + len(channels) * (len(message) + len(outcome)))
        log.append((message, outcome))
        if watched:
            parents.append([channel(REPORT) for channel in channels])
    return Run(sent, log, parents)


def _serve(connection: Any, settings: dict[str, Any], rule: str, width: int, index: int, workers: int) -> None:
    """A worker in a process of its own."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    worker = Worker(
        make_program(settings, rule, width, settings["num_offspring"]), connection.recv_bytes(), index, workers
    )
    while message := connection.recv_bytes():
        connection.send_bytes(worker.receive(message))


def run_over_processes(program: Program, key: jax.Array, settings: dict[str, Any], number: int) -> Run:
    """The same over processes, which share nothing but pipes."""
    context, workers, width = multiprocessing.get_context("spawn"), settings["processes"], settings["width"]
    ends, processes = [], []
    try:
        for index in range(workers):
            near_end, far_end = context.Pipe()
            arguments = (far_end, settings, program.rule, width, index, workers)
            processes.append(context.Process(target=_serve, args=arguments, daemon=True))
            processes[-1].start()
            near_end.send_bytes(to_bytes(program.start))
            ends.append(near_end)

        def channel(end: Any) -> Callable[[bytes], bytes]:
            def exchange(message: bytes) -> bytes:
                end.send_bytes(message)
                return end.recv_bytes()

            return exchange

        return run_over_workers(program, key, number, [channel(end) for end in ends], True)
    finally:
        for end in ends:
            end.send_bytes(b"")
        for process in processes:
            process.join(30)


class _Counting(Executor):
    """A pool that counts the bytes of what a pool of processes would send, and evaluates here."""

    def __init__(self) -> None:
        self.sent = 0

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """Evaluate at once."""
        self.sent += len(ForkingPickler.dumps((fn, args, kwargs)))
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def norm(params: Any) -> float:
    """A loss that a process can import; what is sent does not depend on it."""
    return float(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(params)))


def bytes_of_executor(program: Program, key: jax.Array) -> int:
    """What `mutagrad.executor` sends to a pool of processes in one generation."""
    pool = _Counting()
    offspring = program.algorithm.ask(key, program.algorithm.init(program.start))
    mutagrad.executor(pool).evaluate_fn(norm, offspring)  # type: ignore[arg-type]  # any Python
    return pool.sent
