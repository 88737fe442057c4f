"""Trackers: observers that write what a run records to files, TensorBoard, Weights & Biases, Trackio or MLflow."""

from mutagrad.trackers.files import csv, json_lines
from mutagrad.trackers.services import mlflow, tensorboard, trackio, wandb
from mutagrad.trackers.tracker import Tracker

__all__ = ["Tracker", "csv", "json_lines", "mlflow", "tensorboard", "trackio", "wandb"]
