"""The loop around an algorithm: batches, chunks of generations, observers, checkpoints, and evolve, which puts them together."""
