"""Data, models and losses: tasks to train on."""
