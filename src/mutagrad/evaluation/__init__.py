"""How the candidates of a generation are evaluated: inside the compiled program, or anywhere else."""

from mutagrad.evaluation.batches import of_batch
from mutagrad.evaluation.devices import sharded
from mutagrad.evaluation.everyone import contest
from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.losses import Losses, per_example
from mutagrad.evaluation.pool import executor

__all__ = ["Evaluator", "Losses", "contest", "executor", "of_batch", "per_example", "sharded"]
