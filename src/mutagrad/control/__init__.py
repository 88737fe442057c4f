"""What changes while an algorithm runs: σ, the size of batches, whose turn it is. All are wrappers around any algorithm."""
