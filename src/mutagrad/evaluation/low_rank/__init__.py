"""Evaluation of mutations of low rank without forming their matrices."""
