"""The checks of tests/test_drift.py with more seeds, and the cases left out there: a table of z-scores.

    python verification/drift.py --seeds 10 --only elitist

Each row is a case, each entry the sum of the z-scores of independent seeds over the root of their number: standard
normal if the law holds. The last line compares the largest with what chance makes of so many.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import test_drift


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="independent seeds for each case")
    parser.add_argument("--keys", type=int, default=test_drift.NUM_KEYS, help="keys for each seed")
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    arguments = parser.parse_args()
    cases = {name: case for name, case in test_drift.ALL_CASES.items() if arguments.only in name}
    if arguments.seeds < 1 or not cases:
        parser.error(f"nothing to run: --seeds {arguments.seeds}, {len(cases)} cases match --only {arguments.only!r}")

    print(f"{'':32}" + "".join(f"{name:>13}" for name in test_drift.STATISTICS))
    rows = []
    for name, case in cases.items():
        scores = [case.z_scores(1000 + seed, arguments.keys) for seed in range(arguments.seeds)]
        rows.append(np.sum(scores, axis=0) / np.sqrt(arguments.seeds))
        print(f"{name:32}" + "".join(f"{z:13.2f}" for z in rows[-1]), flush=True)
    largest, number = np.max(np.abs(rows)), np.size(rows)
    chance = -np.expm1(number * np.log1p(-2 * stats.norm.sf(largest)))
    print(f"largest |z| of {number}: {largest:.2f}, reached by chance in {chance:.0%} of such tables")
    return int(chance < 1e-3)


if __name__ == "__main__":
    sys.exit(main())
