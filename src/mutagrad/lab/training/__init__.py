"""Training runs: options in, a run folder and a summary out."""
