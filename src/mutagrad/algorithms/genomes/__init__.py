"""Populations of genomes: many mutations in flight, recombination, demes (theory.md 6 and 11)."""
