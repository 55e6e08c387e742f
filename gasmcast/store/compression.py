"""Smaller forms of features: fewer tokens, fewer dimensions, fewer bits. One place decides all three.

Bytes of a clip of T = 8 frames with 196 tokens of width 768: 2,408,448 in bfloat16, 1,207,360 in int8, 301,840 as 49
tokens in int8, 101,136 with 256 principal components besides.
"""

import dataclasses
import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Float

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import atomic_file, hash_arrays

PRECISIONS = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "int8": np.dtype(np.int8)}
SCALE = "scale"  # of a stream "semantic" in int8: "semantic_scale"
LEVELS = 127  # the whole numbers -127 ... 127, symmetric about zero

# Scales below the smallest normal float16 would lose bits, and an accelerator may take them for zero. A token whose
# largest value is under 127 * 2**-14 = 0.0078 is therefore stored in steps of 2**-14, so to 2**-15 = 0.00003.
SMALLEST_SCALE = np.float16(2**-14)
LARGEST_SCALE = np.float16(65504)

_LARGEST_BFLOAT16 = np.float32(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
_PIECE = 1 << 14  # samples
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError)


@dataclasses.dataclass(frozen=True)
class Variant:
  """In which form features are stored.

  Attributes:
    tokens: of a frame: 0 for all that the backbone gives, 1 for their mean, otherwise the number that is left when
      square neighbourhoods of the grid are averaged (196 = 14 x 14 -> 49 = 7 x 7). Features without an axis of tokens
      stay as they are.
    precision: "float32", "bfloat16", or "int8" with one float16 scale a token.
    pca: principal components that are kept; 0 keeps the features' own dimensions.
  """

  tokens: int = 0
  precision: str = "bfloat16"
  pca: int = 0

  def __post_init__(self):
    require(
      self.precision in PRECISIONS, f"precision = {self.precision!r} is not one of {', '.join(map(repr, PRECISIONS))}."
    )
    for name in ("tokens", "pca"):
      require(getattr(self, name) >= 0, f"{name} = {getattr(self, name)}: it must be at least 0; 0 keeps all.")


@dataclasses.dataclass(frozen=True, eq=False)
class Pca:
  """Principal components.

  Attributes:
    mean: float32 [D].
    basis: float32 [D, K], orthonormal columns, the strongest first.
    explained: share of the variance of the samples that the K components hold.
  """

  mean: Float[np.ndarray, "D"]
  basis: Float[np.ndarray, "D K"]
  explained: float

  @property
  def fingerprint(self) -> str:
    """Hash of mean and basis."""
    return hash_arrays([("mean", self.mean), ("basis", self.basis)])

  def apply(self, x: Float[np.ndarray, "*axes D"]) -> Float[np.ndarray, "*axes K"]:
    """The components of features, float32.

    Raises:
      DataError: the features have another width.
    """
    if x.shape[-1] != len(self.mean):
      raise DataError(
        f"features of width {x.shape[-1]} for principal components of width {len(self.mean)}; fit them on features of "
        "the same backbone."
      )
    return (x.astype(np.float32) - self.mean) @ self.basis

  def restore(self, components: Float[np.ndarray, "*axes K"]) -> Float[np.ndarray, "*axes D"]:
    """The features that have these components and, of what was not kept, the mean."""
    return components.astype(np.float32) @ self.basis.T + self.mean

  def save(self, path: str | os.PathLike) -> None:
    """Writes an .npz, atomically; equal components make equal bytes."""
    with atomic_file(path) as file:
      np.savez(file, mean=self.mean, basis=self.basis, explained=np.float64(self.explained))


def _covariance(samples: np.ndarray, mean: np.ndarray) -> np.ndarray:
  """float64 [D, D], in pieces: a copy of all samples in float64 would take twice their memory."""
  covariance = np.zeros((len(mean), len(mean)))
  for start in range(0, len(samples), _PIECE):
    centred = samples[start : start + _PIECE].astype(np.float64) - mean
    covariance += centred.T @ centred
  return covariance / (len(samples) - 1)


def fit_pca(samples: Float[np.ndarray, "n D"], components: int) -> Pca:
  """The strongest components of the samples, from their covariance in float64.

  Of the two directions of a component the one is taken whose entry of the largest magnitude is positive.

  Raises:
    ConfigError: no component, or more than the features are wide.
    DataError: samples that are not finite, or too few of them for so many components.
  """
  count, width = samples.shape
  require(0 < components <= width, f"pca = {components} for features of width {width}; use 1 to {width}.")
  if count <= components:
    raise DataError(
      f"{components} principal components need more than {components} samples and there are {count}; give more "
      "samples or keep fewer components."
    )
  _require_finite(samples, "samples for principal components")
  mean = samples.mean(0, dtype=np.float64)
  strengths, vectors = np.linalg.eigh(_covariance(samples, mean))
  strengths, vectors = strengths[::-1].clip(0), vectors[:, ::-1]
  leading = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
  basis = (vectors * np.where(leading < 0, -1, 1))[:, :components].astype(np.float32)
  total = strengths.sum()
  explained = float(strengths[:components].sum() / total) if total else 1.0
  return Pca(mean.astype(np.float32), np.ascontiguousarray(basis), explained)


def load_pca(path: str | os.PathLike) -> Pca:
  """Principal components as `Pca.save` wrote them; nothing in the file can run, and it can't grow when it is read.

  Raises:
    DataError: the file is missing, damaged or holds something else.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ValueError("its entries are compressed")
    with np.load(path, allow_pickle=False) as arrays:
      mean, basis, explained = (arrays[name] for name in ("mean", "basis", "explained"))
  except FileNotFoundError as error:
    raise DataError(f"{path} does not exist; fit the principal components first.") from error
  except _UNREADABLE as error:
    reason = " ".join(str(error).split())
    raise DataError(f"{path} can't be read as principal components ({reason}); fit them anew.") from error
  if mean.dtype != np.float32 or basis.dtype != np.float32 or basis.ndim != 2 or mean.shape != basis.shape[:1]:
    raise DataError(
      f"{path}: a mean {mean.dtype} {list(mean.shape)} and a basis {basis.dtype} {list(basis.shape)} are no "
      "principal components; float32 [D] and [D, K] are needed. Fit them anew."
    )
  told = explained.dtype == np.float64 and explained.shape == () and np.isfinite(explained)
  if not (told and np.isfinite(mean).all() and np.isfinite(basis).all()):
    raise DataError(f"{path} holds values that are not finite numbers; fit the principal components anew.")
  return Pca(mean, basis, float(explained))


def tokens_after(tokens: int, wanted: int) -> int:
  """The tokens of a frame that `Variant.tokens` = `wanted` leaves of so many.

  Raises:
    ConfigError: they are no square grid, or can't be divided into square neighbourhoods that leave so many.
  """
  if wanted in (0, tokens):
    return tokens
  if wanted == 1:
    return 1
  side, smaller = math.isqrt(tokens), math.isqrt(wanted)
  squares = [n * n for n in range(side, 0, -1) if side % n == 0] if side * side == tokens else [tokens, 1]
  require(
    smaller * smaller == wanted and wanted in squares,
    f"tokens = {wanted}: {tokens} tokens a frame can be averaged to {', '.join(map(str, squares))}; use one of them, "
    "or 0 for all.",
  )
  return wanted


def pool_tokens(x: Float[np.ndarray, "*axes N D"], tokens: int) -> Float[np.ndarray, "*axes M D"]:
  """Averages square neighbourhoods of a square grid of tokens, row by row, until so many are left; see `Variant`."""
  before = x.shape[-2]
  after = tokens_after(before, tokens)
  if after == before:
    return x
  if after == 1:
    return x.mean(-2, keepdims=True)
  side, smaller = math.isqrt(before), math.isqrt(after)
  each = side // smaller
  grid = x.reshape(*x.shape[:-2], smaller, each, smaller, each, x.shape[-1])
  return grid.mean((-4, -2)).reshape(*x.shape[:-2], after, x.shape[-1])


def pool_features(x: Float[np.ndarray, "T *N D"], tokens: int) -> Float[np.ndarray, "T *M D"]:
  """`pool_tokens` of features that have tokens; those without, as segments, stay as they are."""
  return pool_tokens(x, tokens) if x.ndim > 2 else x


def stored_shape(shape: tuple[int, ...], variant: Variant) -> tuple[int, ...]:
  """What `compress` makes of features [T, N, D] or [T, D] of this shape.

  Raises:
    ConfigError: tokens that can't be averaged so.
  """
  *axes, width = shape
  if len(axes) > 1:
    axes[-1] = tokens_after(axes[-1], variant.tokens)
  return (*axes, variant.pca or width)


def compress(x: Float[np.ndarray, "T *N D"], variant: Variant, pca: Pca | None = None) -> dict[str, np.ndarray]:
  """Features in the form of `variant`: {"": array}, for int8 with {"scale": float16 [..., 1]} besides.

  int8 is symmetric: q = x / scale rounded half to even, x ~ q * scale. The scale of a token is its largest magnitude
  over 127, rounded up in float16, so that nothing is cut off and |x - q * scale| <= scale / 2.

  Raises:
    ConfigError: tokens that can't be averaged so, or `pca` is not given where the variant asks for it.
    DataError: values that are not finite or too large for the precision, or components of another width.
  """
  _require_finite(x, "features")
  x = x.astype(np.float32, copy=False)
  x = pool_features(x, variant.tokens)
  if variant.pca:
    kept = None if pca is None else pca.basis.shape[1]
    require(kept == variant.pca, f"pca = {variant.pca} and components fitted for {kept}; fit them for {variant.pca}.")
    x = pca.apply(x)
  if variant.precision == "int8":
    return _to_int8(x)
  stored = x.astype(PRECISIONS[variant.precision])
  if x.size and max(x.max(), -x.min()) > _LARGEST_BFLOAT16:  # looking at each takes twice as long as storing it
    _require_finite(stored, f"features in {variant.precision}")
  return {"": stored}


def decompress(parts: Mapping[str, np.ndarray]) -> Float[np.ndarray, "T *N D"]:
  """float32 features from what `compress` gives; principal components stay components."""
  x = parts[""].astype(np.float32)
  return x * parts[SCALE].astype(np.float32) if SCALE in parts else x


def name_parts(stream: str, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """{"semantic": array, "semantic_scale": scale} of what `compress` gives, for a record and for a batch."""
  return {f"{stream}_{name}" if name else stream: array for name, array in parts.items()}


def parts_of(stream: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """What `name_parts` named so, for `decompress`."""
  scale = f"{stream}_{SCALE}"
  return {"": arrays[stream]} | ({SCALE: arrays[scale]} if scale in arrays else {})


def _to_int8(x: np.ndarray) -> dict[str, np.ndarray]:
  wanted = np.abs(x).max(-1, keepdims=True) / np.float32(LEVELS)
  if wanted.size and wanted.max() > LARGEST_SCALE:
    raise DataError(
      f"features reach {wanted.max() * LEVELS:.3g}; int8 with float16 scales holds up to "
      f"{float(LARGEST_SCALE) * LEVELS:.3g}. Use precision = 'bfloat16'."
    )
  scale = wanted.astype(np.float16)
  rounded_down = scale.astype(np.float32) < wanted
  scale = np.where(rounded_down, np.nextafter(scale, np.float16(np.inf)), scale).clip(SMALLEST_SCALE)
  # x / scale can't exceed 127 but by the rounding of the division, which rint removes
  return {"": np.rint(x / scale.astype(np.float32)).astype(np.int8), SCALE: scale}


def _require_finite(x: Any, what: str) -> None:
  finite = np.isfinite(x)
  if not finite.all():
    bad = x.size - np.count_nonzero(finite)
    raise DataError(f"{bad} of {x.size} values of the {what} are not finite; look for a damaged input or weights.")


def nbytes(shape: tuple[int, ...], variant: Variant) -> int:
  """Bytes of features [T, N, D] or [T, D] of this shape in the form of `variant`, without the record's own head.

  Raises:
    ConfigError: tokens that can't be averaged so.
  """
  *axes, width = stored_shape(shape, variant)
  values = math.prod(axes) * width
  scales = math.prod(axes) * SMALLEST_SCALE.nbytes if variant.precision == "int8" else 0
  return values * PRECISIONS[variant.precision].itemsize + scales
