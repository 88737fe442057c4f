"""Experiments around the library: data, models, recorded runs and figures."""
