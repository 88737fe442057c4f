"""One peer on one line in a process of its own: what it costs to compile, to run and to reach the target, as JSON."""

import json
import resource
import sys
import time

from benchmarks.peers.lines import LINES
from benchmarks.peers.peers import PEERS

_CHUNK = 0.25


def measured(line_name: str, peer_name: str, seconds: float, to_target: float) -> dict:
    """Figures of one process.

    compile : seconds of the first generation. generations : per second afterwards, for ``seconds``.
    time, evaluations : to the target, compilation included, within ``to_target`` seconds; otherwise ``None``.
    """
    line = LINES[line_name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    advance = PEERS[peer_name](line)
    number, loss = advance()
    compiling = time.perf_counter() - begun
    per_generation = 1 if peer_name.startswith("optax") else line.num_offspring + peer_name.startswith("mutagrad")
    found: dict = {"compile": compiling, "time": None, "evaluations": None}

    def note(generations: int, loss: float) -> None:
        is_there = line.target is not None and loss <= line.target and found["time"] is None
        if is_there:
            found.update(time=time.perf_counter() - begun, evaluations=generations * per_generation)

    note(number, loss)
    if hasattr(advance, "longer"):
        start = time.perf_counter()
        more, loss = advance()
        number += more
        note(number, loss)
        advance.longer(max(1, min(int(_CHUNK / (time.perf_counter() - start)), 1000)))
        # Compiles once more.
        more, loss = advance()
        number += more
        note(number, loss)
    start, counted = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or counted == 0:
        more, loss = advance()
        number, counted = number + more, counted + more
        note(number, loss)
    elapsed = time.perf_counter() - start
    while line.target is not None and found["time"] is None and time.perf_counter() - start < to_target:
        more, loss = advance()
        number += more
        note(number, loss)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {
        "generations": counted / elapsed,
        "evaluated": per_generation * counted / elapsed,
        "memory": (peak - before) / 2**10,
        "loss": loss,
    }


if __name__ == "__main__":
    _, line, peer, seconds, to_target, limit = sys.argv
    resource.setrlimit(resource.RLIMIT_DATA, (int(float(limit) * 2**30),) * 2)
    try:
        outcome = measured(line, peer, float(seconds), float(to_target))
    except Exception as error:
        outcome = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"}
    print(json.dumps(outcome))
