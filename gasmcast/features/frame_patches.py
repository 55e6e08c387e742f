"""Frames cut into the square patches that the vision transformers take for tokens."""

from jaxtyping import Array, Float

from gasmcast.core.errors import DataError


def require_patches(height: int, width: int, patch: int) -> None:
  """Raises DataError unless frames of height x width pixels divide into patches of `patch` x `patch`."""
  if height % patch or width % patch:
    raise DataError(
      f"frames of {height} x {width} pixels do not divide into patches of {patch}; resize or crop them, for "
      f"example to {max(1, height // patch) * patch} x {max(1, width // patch) * patch}."
    )


def cut(frames: Float[Array, "B T H W C"], patch: int) -> Float[Array, "F N E"]:
  """Patches in row-major order, each flattened by row, column and channel: F = B * T, E = patch * patch * C."""
  batch, time, height, width, channels = frames.shape
  rows, columns = height // patch, width // patch
  x = frames.reshape(batch * time, rows, patch, columns, patch, channels).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch * time, rows * columns, patch * patch * channels)
