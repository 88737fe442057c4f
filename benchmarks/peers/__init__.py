"""Peers beside us, one model a line: ``make peers``."""
