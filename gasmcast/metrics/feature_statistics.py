"""How features are distributed, channel by channel, over any number of clips: sums that grow and merge by adding.

  sums = None
  for features in batches:                  # [..., D]
    sums = update(sums, features)
  summarize(merge(sums, those_of_another_machine))
  drift(sums_of_a_month_ago, sums)

Sums are a dict of float64 arrays, which `numpy.savez` can hold. Counts, extremes and the histogram don't depend on how
rows were batched or merged; sums of values agree to the rounding of float64, and equal merges give equal bits.

Host side, numpy alone. A row costs D**2 multiplications for the covariance, as much as a dense layer: leave it out, or
pass fewer rows (the mean over the patches of a frame), where that matters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gasmcast.core.errors import DataError

Sums = Mapping[str, np.ndarray]

_POWERS = 2.0 ** np.arange(-10, 11)
EDGES = tuple(float(edge) for edge in (*-_POWERS[::-1], 0.0, *_POWERS))  # of the histogram: 0 and +-2**-10 ... 2**10
_ROWS = 4096  # converted to float64 at a time
_ADDED = ("rows", "finite", "zeros", "sum", "squares", "counts", "complete", "complete_sum", "products")


def empty(width: int, edges: Sequence[float] = EDGES, covariance: bool = True) -> dict[str, np.ndarray]:
  """The sums of no rows.

  Args:
    width: D, channels of a row.
    edges: E rising numbers. Bin i of the histogram counts values in [edges[i - 1], edges[i]); the first and the last of
      its E + 1 bins are open.
    covariance: whether to sum what `participation_ratio` and `frechet_distance` need, D x D numbers.

  Returns:
    "rows" and "complete" [] (all rows, those that are finite throughout); "finite", "zeros", "sum", "squares", "min",
    "max" [D] over the finite values of each channel; "edges" [E], "counts" [E + 1] over all finite values; with
    covariance "complete_sum" [D] and "products" [D, D] over complete rows.

  Raises:
    ValueError: no channel, or edges that don't rise.
  """
  if width < 1 or len(edges) < 1 or np.any(np.diff(edges) <= 0):
    raise ValueError(f"width {width} and edges {list(edges)[:8]}: a channel and rising edges are needed.")
  zeros = lambda *shape: np.zeros(shape, np.float64)
  sums = {name: zeros(width) for name in ("finite", "zeros", "sum", "squares")}
  sums |= {"rows": zeros(), "complete": zeros(), "min": np.full(width, np.inf), "max": np.full(width, -np.inf)}
  sums |= {"edges": np.asarray(edges, np.float64), "counts": zeros(len(edges) + 1)}
  return sums | ({"complete_sum": zeros(width), "products": zeros(width, width)} if covariance else {})


def update(sums: Sums | None, features: Float[np.ndarray, "... D"]) -> dict[str, np.ndarray]:
  """`sums` and the rows of `features`; None for `empty` of their width.

  Raises:
    DataError: features of another width.
  """
  rows = features.reshape(-1, features.shape[-1])
  total = empty(rows.shape[1]) if sums is None else dict(sums)
  if rows.shape[1] != len(total["sum"]):
    raise DataError(f"features of width {rows.shape[1]} can't be added to sums of width {len(total['sum'])}.")
  for first in range(0, len(rows), _ROWS):
    total = merge(total, _sums_of(rows[first : first + _ROWS].astype(np.float64), total))
  return total


def _sums_of(rows: Float[np.ndarray, "P D"], like: Sums) -> dict[str, np.ndarray]:
  finite = np.isfinite(rows)
  complete = finite.all(1)
  values = np.where(finite, rows, 0.0)
  places = np.searchsorted(like["edges"], rows[finite], side="right")
  sums = {
    "rows": np.float64(len(rows)),
    "complete": np.float64(complete.sum()),
    "finite": finite.sum(0, dtype=np.float64),
    "zeros": ((rows == 0) & finite).sum(0, dtype=np.float64),
    "sum": values.sum(0),
    "squares": np.einsum("pd,pd->d", values, values),
    "min": np.where(finite, rows, np.inf).min(0),
    "max": np.where(finite, rows, -np.inf).max(0),
    "edges": like["edges"],
    "counts": np.bincount(places, minlength=len(like["edges"]) + 1).astype(np.float64),
  }
  if "products" in like:
    values = values[complete]
    sums |= {"complete_sum": values.sum(0), "products": values.T @ values}
  return sums


def merge(first: Sums, second: Sums) -> dict[str, np.ndarray]:
  """The sums of the rows of both.

  Raises:
    DataError: sums of other widths, other edges, or only one with covariance.
  """
  if first["sum"].shape != second["sum"].shape:
    raise DataError(f"sums of widths {len(first['sum'])} and {len(second['sum'])} can't be merged: other features.")
  if not np.array_equal(first["edges"], second["edges"]):
    raise DataError("sums whose histograms have other edges can't be merged; make both with the same edges.")
  if ("products" in first) != ("products" in second):
    raise DataError("sums with and without covariance can't be merged; make both with the same setting.")
  merged = {name: first[name] + second[name] for name in _ADDED if name in first}
  merged |= {"min": np.minimum(first["min"], second["min"]), "max": np.maximum(first["max"], second["max"])}
  return merged | {"edges": first["edges"]}


def summarize(sums: Sums) -> dict[str, Any]:
  """The numbers, as JSON can hold them; None where no finite value stands behind one.

  Returns:
    "rows"; over all values "mean", "std", "min", "max", "zero_share" (of the finite ones), "nonfinite_share";
    "constant_channels" (finite values that are all the same), "dead_channels" (all zero); "participation_ratio" (None
    without covariance or with fewer than two complete rows); "channels": lists of D numbers "mean", "variance", "min",
    "max", "zero_share", "nonfinite_share"; "histogram": {"edges", "counts"}, see `empty`.
  """
  finite, values = sums["finite"], float(sums["finite"].sum())
  channels = {
    "mean": _ratio(sums["sum"], finite),
    "variance": _variance(sums["sum"], sums["squares"], finite),
    "min": np.where(finite > 0, sums["min"], np.nan),
    "max": np.where(finite > 0, sums["max"], np.nan),
    "zero_share": _ratio(sums["zeros"], finite),
    "nonfinite_share": _ratio(sums["rows"] - finite, np.full_like(finite, sums["rows"])),
  }
  of_all = {
    "mean": _ratio(sums["sum"].sum(), values),
    "std": np.sqrt(_variance(sums["sum"].sum(), sums["squares"].sum(), values)),
    "min": sums["min"].min() if values else np.nan,
    "max": sums["max"].max() if values else np.nan,
    "zero_share": _ratio(sums["zeros"].sum(), values),
    "nonfinite_share": _ratio(sums["rows"] * len(finite) - values, float(sums["rows"]) * len(finite)),
  }
  return {
    "rows": int(sums["rows"]),
    **{name: _plain(value) for name, value in of_all.items()},
    "constant_channels": int(((sums["min"] == sums["max"]) & (finite > 0)).sum()),
    "dead_channels": int(((sums["zeros"] == finite) & (finite > 0)).sum()),
    "participation_ratio": participation_ratio(sums) if "products" in sums and sums["complete"] >= 2 else None,
    "channels": {name: _plain(values) for name, values in channels.items()},
    "histogram": {"edges": sums["edges"].tolist(), "counts": [int(count) for count in sums["counts"]]},
  }


def _ratio(part: Any, whole: Any) -> Any:
  """part / whole, NaN where whole is 0."""
  whole = np.asarray(whole, np.float64)
  return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _variance(total: Any, squares: Any, count: Any) -> Any:
  """Mean square deviation from the mean; never below 0, where rounding would take it."""
  mean = _ratio(total, count)
  return np.maximum(_ratio(squares, count) - mean**2, 0)


def _plain(value: Any) -> Any:
  """Floats and lists of floats, None for NaN."""
  plain = np.asarray(value).tolist()
  missing = lambda number: None if np.isnan(number) else number
  return [missing(number) for number in plain] if isinstance(plain, list) else missing(plain)


def covariance(sums: Sums) -> tuple[Float[np.ndarray, "D"], Float[np.ndarray, "D D"]]:
  """(mean, covariance) of the complete rows, the mean square form (divided by their number).

  Raises:
    DataError: sums without covariance, or fewer than two complete rows.
  """
  if "products" not in sums:
    raise DataError("these sums of features were made without covariance; make them again with it.")
  count = float(sums["complete"])
  if count < 2:
    raise DataError(
      f"{count:.0f} of {float(sums['rows']):.0f} rows of features are finite throughout; a covariance needs 2 or more."
    )
  mean = sums["complete_sum"] / count
  return mean, sums["products"] / count - np.outer(mean, mean)


def participation_ratio(sums: Sums) -> float:
  """In how many directions the rows vary: (sum of the covariance's eigenvalues)**2 / sum of their squares (Gao et al.,
  "A theory of multineuronal dimensionality", 2017); r if r directions vary equally, 0 if nothing varies.

  Unlike `feature_quality.effective_rank` it comes from sums, and large directions weigh more.

  Raises:
    DataError: as `covariance`.
  """
  _, matrix = covariance(sums)
  trace = float(np.trace(matrix))
  # Rounding leaves about 1e-16 of the mean square where nothing varies.
  if trace <= 1e-12 * float(np.trace(sums["products"]) / sums["complete"]):
    return 0.0
  return trace**2 / float((matrix**2).sum())


def frechet_distance(first: Sums, second: Sums) -> float:
  """|m - n|**2 + trace(A + B - 2 (A B)**0.5) of means m, n and covariances A, B: the squared Frechet distance of two
  normal distributions (Dowson and Landau 1982), as in the FID of Heusel et al. 2017; 0 for equal ones.

  Raises:
    DataError: as `covariance`, or other widths.
  """
  (mean, matrix), (other_mean, other) = covariance(first), covariance(second)
  if len(mean) != len(other_mean):
    raise DataError(f"features of widths {len(mean)} and {len(other_mean)} can't be compared.")
  values, vectors = np.linalg.eigh(matrix)
  root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
  # A B and A**0.5 B A**0.5 have the same eigenvalues, and the latter is symmetric.
  common = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other @ root), 0, None)).sum()
  distance = ((mean - other_mean) ** 2).sum() + np.trace(matrix) + np.trace(other) - 2 * common
  return max(float(distance), 0.0)


def drift(reference: Sums, sums: Sums) -> dict[str, float | None]:
  """How far features moved away from a reference.

  Returns:
    "frechet": `frechet_distance` as a share of the variance of the reference, None without covariance or variance;
    "mean_shift": largest move of a channel's mean, in its standard deviations in the reference, over channels that
    vary there; None if none does;
    "histogram": share of the values that stand in another bin, 0 to 1 (the total variation distance).

  Raises:
    DataError: widths, edges or settings that `merge` refuses, or no finite value in one of them.
  """
  merge(reference, sums)
  if not (reference["counts"].sum() and sums["counts"].sum()):
    raise DataError("features without a finite value can't be compared.")
  shares = [one["counts"] / one["counts"].sum() for one in (reference, sums)]
  before, after = (_ratio(one["sum"], one["finite"]) for one in (reference, sums))
  spread = np.sqrt(_variance(reference["sum"], reference["squares"], reference["finite"]))
  varies = (reference["min"] < reference["max"]) & (spread > 0) & (sums["finite"] > 0)
  shifts = np.abs(after - before)[varies] / spread[varies]
  variance = float(np.trace(covariance(reference)[1])) if "products" in reference else 0.0
  return {
    "frechet": frechet_distance(reference, sums) / variance if variance > 0 else None,
    "mean_shift": float(shifts.max()) if len(shifts) else None,
    "histogram": float(np.abs(shares[0] - shares[1]).sum() / 2),
  }
