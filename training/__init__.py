"""Datasets, training, evaluation and export; never imported by the service."""
