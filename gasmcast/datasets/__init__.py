"""Annotations into `core.types.Dataset`, one file a data set. Imports no jax."""
