"""Strictness for every test: CPU, no silent dtype or rank promotion, and Hypothesis without chance."""

import fnmatch
import gc
import os
import signal
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time of these tests is compilation. Level 1 compiles two to three times as fast as the default; at level 0 a sum is
# rounded by the program around it. In one piece, and without its fusion emitters, the compiler takes a third less again. Later
# versions may lack these flags, and 0.10.2 must show how it is wrong.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1"
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    * (version("jaxlib") in ("0.10.0", "0.10.1")),
)

# A shell starts what runs in its background deaf to Ctrl-C, and nohup to SIGHUP, which the tests of signals send.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import jax
import pytest
from hypothesis import settings
from tiers import KEPT

jax.config.update("jax_platforms", "cpu")

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "permissive: runs third-party code that needs JAX's default dtype and rank promotion"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the cases that `make test` leaves out (tests/tiers.py)."""
    for item in items:
        test, _, case = item.nodeid.removeprefix("tests/").partition("[")
        kept = KEPT.get(test)
        if kept is not None and not any(fnmatch.fnmatchcase(case.removesuffix("]"), pattern) for pattern in kept):
            item.add_marker("verify")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """What was imported is not looked through for garbage again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Nor is what a file of tests left in JAX's caches: a twentieth of the time went there."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Mixed dtypes and implicit broadcasting of ranks raise, unless the test is marked ``permissive``."""
    if request.node.get_closest_marker("permissive"):
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
