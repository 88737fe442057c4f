"""K23-10: evaluation of a population scales by seeds alone (appendix)."""

from typing import Any

import jax
import numpy as np

import mutagrad
from mutagrad import tree
from mutagrad.lab.claims.checks import Expected, above, near
from mutagrad.lab.claims.claims import Claim, Job, Needs, Outcome
from mutagrad.lab.claims.kucharavy2023 import workers
from mutagrad.lab.claims.kucharavy2023.workers import RULES, Worker, make_program, to_bytes
from mutagrad.report.figures import panels

__all__ = ["CLAIMS"]

_NUMBER = 4
"""Bytes of a number: a loss, an index, a parameter."""
_KEY = 8
"""Bytes of a key."""


def bytes_of_seeds(rule: str, number: int, num_workers: int) -> int:
    """Bytes that cross in a generation of M offspring between W workers; the parameters are not in it.

    A worker gets a key and the outcome, and answers with an index and a loss for each candidate of its share.
    """
    return num_workers * (_KEY + bytes_of_outcome(rule, number)) + 2 * _NUMBER * num_candidates(rule, number)


def num_candidates(rule: str, number: int) -> int:
    """The offspring and the parent; where offspring recombine, the library evaluates the parent before too."""
    return number + (1 if rule == "(1+M)" else 2)


def bytes_of_outcome(rule: str, number: int) -> int:
    """Bytes from which a worker makes the next parent: an index, or all losses."""
    return _NUMBER if rule == "(1+M)" else _NUMBER * num_candidates(rule, number)


def mutations_of_worker(rule: str, number: int, num_workers: int) -> float:
    """Mutations that a worker makes a generation: those of its share of the candidates, and those of the next parent.

    A parent is evaluated by the program of its offspring, with a mutation times 0.
    """
    return num_candidates(rule, number) / num_workers + mutations_of_replay(rule, number)


def mutations_of_replay(rule: str, number: int) -> int:
    """Mutations from which the next parent is made: the one that won, or all."""
    return 1 if rule == "(1+M)" else number


def _name(what: str, rule: str) -> str:
    return {
        "same": f"{rule}: generations whose new parent every worker has, bit for bit",
        "processes": f"{rule}: generations whose new parent every process has, bit for bit",
        "growth": f"{rule}: bytes a generation with the largest N, over those with the smallest",
        "law": f"{rule}: bytes a generation, the most that they differ from the law over N and M",
        "params": f"{rule}: bytes a generation from parameters (4NM) over bytes by seeds, at the largest N and M",
        "executor": f"{rule}: bytes a generation that mutagrad.executor sends, over 4N(M + 1), at the largest",
        "joined": f"{rule}: generations that who joins late makes again, bit for bit",
        "work": f"{rule}: mutations that a worker makes a generation",
        "replay": f"{rule}: mutations that who joins late makes for each generation missed",
        "log": f"{rule}: bytes that who joins late reads for each generation missed",
    }[what]


def expect_seeds(settings: dict[str, Any]) -> list[Expected]:
    """The intervals of K23-10."""
    stated, generations, num_workers = [], settings["generations"], settings["workers"]
    number, most = settings["num_offspring"], settings["offspring"][-1]

    def exactly(what: str, rule: str, value: float, why: str, ours: bool = False) -> None:
        stated.append(near(_name(what, rule), value, 0, "identity", why, ours=ours, exact=True))

    for rule in RULES:
        why = (
            "a mutation is a function of the key and the index, so that every generation is made again; counted only where the "
            f"parent moved, which it fails to do in one generation of 2^{number}"
        )
        exactly("same", rule, generations, why)
        if settings["processes"]:
            exactly("processes", rule, settings["process_generations"], why)
        exactly("growth", rule, 1, "no message holds a parameter")
        law = bytes_of_seeds(rule, most, num_workers)
        exactly(
            "law", rule, 0, f"W (8 + outcome) bytes and 8 for each candidate, {law:,} at M = {most}, W = {num_workers}"
        )
        ratio = _NUMBER * num_params(settings["widths"][-1]) * most / law
        exactly("params", rule, ratio, "4NM over the law")
        outcome, replay = bytes_of_outcome(rule, number), mutations_of_replay(rule, number)
        exactly("joined", rule, generations, "the keys and the outcomes are all that a worker was sent", ours=True)
        work = mutations_of_worker(rule, number, num_workers)
        exactly("work", rule, work, "its share of the candidates, and what the next parent is made of", ours=True)
        exactly("replay", rule, replay, "the winner alone, or all M", ours=True)
        exactly("log", rule, _KEY + outcome, "a key, and an index or all losses", ours=True)
    why = "its message holds the parameters of each candidate, parent included: 4N(M + 1) bytes and what frames them"
    stated.append(above(_name("executor", RULES[0]), 1, "identity", why, ours=True, exact=True))
    return stated


def num_params(width: int) -> int:
    """N of a network of 64 inputs, so many hidden units and 10 outputs."""
    return 65 * width + 10 * (width + 1)


def _single_process(program: Any, key: jax.Array, number: int) -> list[bytes]:
    """The parents of a run by `mutagrad.evolve` in one process, after each generation."""
    history = mutagrad.evolve(
        key, program.algorithm, program.start, program.loss_fn, number, record=lambda state, info: state.params,
        evaluation=mutagrad.executor(), progress=False,
    ).history  # fmt: skip
    return [to_bytes(jax.tree.map(lambda leaf, at=at: leaf[at], history)) for at in range(number)]


def _num_same(alone: list[bytes], everyone: list[list[bytes]], start: bytes) -> int:
    """Generations whose new parent all have, and that was another one before."""
    before = [start, *alone[:-1]]
    return sum(
        own != last and all(one == own for one in theirs)
        for last, own, theirs in zip(before, alone, everyone, strict=True)
    )


def _exchange(job: Job, rule: str, found: dict[str, tuple[float, float]]) -> None:
    """A run over workers beside that of a single process, over processes, and again by one who joins late."""
    settings, generations = job.settings, job["generations"]
    program = make_program(settings, rule, job["width"], job["num_offspring"])
    start, key = to_bytes(program.start), jax.random.fold_in(job.key, RULES.index(rule))
    alone = _single_process(program, key, generations)
    everyone = [Worker(program, start, index, job["workers"]) for index in range(job["workers"])]
    run = workers.run_over_workers(program, key, generations, [one.receive for one in everyone], True)
    found[_name("same", rule)] = (_num_same(alone, run.parents, start), 0)
    if job["processes"]:
        few = job["process_generations"]
        there = workers.run_over_processes(program, key, settings, few)
        found[_name("processes", rule)] = (_num_same(alone[:few], there.parents, start), 0)
    found[_name("log", rule)] = (sum(len(part) for entry in run.log for part in entry) / generations, 0)
    late, same = Worker(program, start, 0, 1), 0
    for (message, outcome), own, last in zip(run.log, alone, [start, *alone], strict=False):
        late.state = workers.next_state(program, workers.key_of(message), late.state, outcome)
        same += to_bytes(late.state.params) == own != last
    found[_name("joined", rule)] = (same, 0)
    _count_mutations(job, program, start, key, run.log, found)


def _count_mutations(
    job: Job, program: Any, start: bytes, key: jax.Array, log: list[tuple[bytes, bytes]], found: dict[str, Any]
) -> None:
    """Mutations made by all workers, and by one who joins late and reads the log of the first generations."""
    made, few = [0], job["counted_generations"]

    def count() -> None:
        made[0] += 1

    # Its parents differ in the last bit: a mutation that is counted is not fused with what follows it.
    counted = make_program(job.settings, program.rule, job["width"], job["num_offspring"], count)
    late = Worker(counted, start, 0, 1)
    for message, outcome in log[:few]:
        late.state = workers.next_state(counted, workers.key_of(message), late.state, outcome)
    jax.block_until_ready(late.state)
    found[_name("replay", program.rule)] = (made[0] / few, 0)
    made[0] = 0
    everyone = [Worker(counted, start, index, job["workers"]) for index in range(job["workers"])]
    workers.run_over_workers(program, key, few, [one.receive for one in everyone], False)
    jax.block_until_ready([one.state for one in everyone])
    # The shares may differ by one candidate: the mean of them.
    found[_name("work", program.rule)] = (made[0] / few / job["workers"], 0)


def run_seeds(job: Job) -> Outcome:
    """Bytes that cross between workers, by the size of the network and of the population; and who has which parent."""
    import xarray

    widths, offspring, num_workers = job["widths"], job["offspring"], job["workers"]
    sent = np.full((len(RULES), len(widths), len(offspring)), np.nan)
    by_executor = np.full_like(sent[0], np.nan)
    # Either grows alone, and both together.
    places = [(j, k) for j in range(len(widths)) for k in range(len(offspring)) if not j or not k]
    places = list(dict.fromkeys([*places, (len(widths) - 1, len(offspring) - 1)]))
    found: dict[str, tuple[float, float]] = {}
    for i, rule in enumerate(RULES):
        _exchange(job, rule, found)
        for at, (j, k) in enumerate(places):
            program = make_program(job.settings, rule, widths[j], offspring[k])
            start, key = to_bytes(program.start), jax.random.fold_in(job.key, 10 + i)
            everyone = [Worker(program, start, index, num_workers) for index in range(num_workers)]
            run = workers.run_over_workers(program, key, 1, [one.receive for one in everyone], False)
            sent[i, j, k] = run.sent[0]
            if i == 0:
                by_executor[j, k] = workers.bytes_of_executor(program, key)
            job.progress((i + (1 + at) / (1 + len(places))) / len(RULES))
        law = np.array([bytes_of_seeds(rule, number, num_workers) for number in offspring])
        params = _NUMBER * tree.num_entries(program.start)
        found[_name("growth", rule)] = (sent[i, -1, 0] / sent[i, 0, 0], 0)
        found[_name("law", rule)] = (float(np.nanmax(np.abs(sent[i] - law))), 0)
        found[_name("params", rule)] = (params * offspring[-1] / sent[i, -1, -1], 0)
    found[_name("executor", RULES[0])] = (by_executor[-1, -1] / (params * (offspring[-1] + 1)), 0)
    data = xarray.Dataset(
        {"seeds": (("rule", "params", "offspring"), sent), "executor": (("params", "offspring"), by_executor)},
        coords={"rule": list(RULES), "params": [num_params(width) for width in widths], "offspring": list(offspring)},
        attrs={"workers": num_workers},
    )
    return Outcome(found, data, draw_seeds)


def draw_seeds(data: Any) -> Any:
    """Bytes a generation against N and against M, and bytes that who joins late reads against generations missed."""
    figure, (left, middle, right) = panels(3, width=4.2)
    sizes, offspring, number = data.params.values, data.offspring.values, data.attrs["workers"]
    few, small, large = int(offspring[0]), int(sizes[0]), int(sizes[-1])
    missed = np.geomspace(1, 1e6, 100)
    for colour, rule in enumerate(data.rule.values):
        seeds, style = data.seeds.sel(rule=rule), {"color": f"C{colour}", "markersize": 5}
        left.plot(sizes, seeds[:, 0], "o-", label=f"{rule}, seeds", **style)
        middle.plot(offspring, seeds[0], "o", label=f"{rule}, seeds", **style)
        every = np.arange(few, offspring[-1] + 1)
        middle.plot(every, [bytes_of_seeds(rule, int(each), number) for each in every], color=f"C{colour}", linewidth=1)
        of_each = _KEY + bytes_of_outcome(rule, few)
        right.plot(missed, of_each * missed, color=f"C{colour}", linewidth=1, label=f"{rule}, M = {few}: the log")
    for axis, x, one in ((left, sizes, data.executor[:, 0]), (middle, offspring, data.executor[0])):
        axis.plot(x, one, "s--", color="k", markersize=4, label="parameters, mutagrad.executor")
    right.axhline(_NUMBER * large, color="k", linestyle="--", linewidth=1, label=f"a snapshot, N = {large:,}")
    left.set(xlabel="parameters N", ylabel=f"bytes a generation, {number} workers")
    left.set_title(f"M = {few}", fontsize=9)
    middle.set(xlabel="offspring M", ylabel=f"bytes a generation, {number} workers")
    middle.set_title(f"N = {small:,}; lines: the law", fontsize=9)
    right.set(xlabel="generations missed", ylabel="bytes that who joins late reads")
    for axis in (left, middle, right):
        axis.set(xscale="log", yscale="log")
        axis.legend(frameon=False, fontsize=8)
    middle.set_xticks(offspring, [str(each) for each in offspring])
    middle.minorticks_off()
    return figure


_SEEDS = {
    "quick": {
        "widths": (8, 512, 4096), "offspring": (15, 63, 255), "num_offspring": 15, "generations": 30, "workers": 4,
        "processes": 2, "process_generations": 10, "counted_generations": 10, "images": 100, "width": 64,
        "sigma": 0.01, "key": 2310,
    },
    "paper": {
        "widths": (8, 64, 512, 4096, 32768), "offspring": (15, 63, 255, 1023),
        "num_offspring": 15, "generations": 1000, "workers": 16, "processes": 4, "process_generations": 100,
        "counted_generations": 10, "images": 1000, "width": 512, "sigma": 0.003, "key": 2310,
    },
}  # fmt: skip


def _needs(settings: dict[str, Any]) -> Needs:
    share = settings["images"] / 1000 * len(RULES)
    swept = len(settings["widths"]) * 2 * sum(settings["offspring"])
    return Needs(share * (5 * settings["generations"] * settings["num_offspring"] + swept), 1e9, 1e6)


CLAIMS = [
    Claim(
        "K23-10",
        "kucharavy2023",
        "appendix",
        "evaluation of a population scales by seeds alone: workers that exchange keys, losses and the index of the winner have "
        "the parents of a single process bit for bit, by bytes that do not grow with N; P: recombination needs all losses, and "
        "every worker all mutations",
        _SEEDS,
        run_seeds,
        _needs,
        "{workers} workers, networks of {widths} hidden units on {images} digits, M of {offspring}; {generations} generations of "
        "{num_offspring} offspring for who has which parent",
        expect_seeds,
    ),
]
