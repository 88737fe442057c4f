"""Twins of the claims of Sourbut 2022."""

from twins import Twin

TWINS: list[Twin] = []
