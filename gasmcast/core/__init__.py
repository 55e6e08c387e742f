"""Contracts and small mechanisms that every other folder rests on. Imports no jax."""
