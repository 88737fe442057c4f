"""Claims of published works, each decided by a simulation."""
