"""From published tensors to the variables of our modules: a table of rules a layout, strict on both sides.

A layout is a sequence of `Rule`s that names every tensor of the files it stands for. A tensor that two rules name or
none, a variable that nothing fills or two tensors fill, and a wrong shape are errors, all gathered in one message.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from gasmcast.core.errors import WeightsError

_SHOWN = 4  # problems of one kind that a message names
_SLICE = re.compile(r"(.+)\[(\d+)/(\d+)\]")


def same(tensor: np.ndarray) -> np.ndarray:
  return tensor


def linear(tensor: np.ndarray) -> np.ndarray:
  """torch Linear [out, in] -> kernel [in, out]."""
  return tensor.T


def convolution(tensor: np.ndarray) -> np.ndarray:
  """torch Conv2d [O, I, h, w] or Conv3d [O, I, t, h, w] -> kernel [(t,) h, w, I, O]."""
  return np.moveaxis(tensor, (0, 1), (-1, -2))


def patches(tensor: np.ndarray) -> np.ndarray:
  """torch convolution of patches [O, I, (t,) h, w] -> kernel of a linear layer over flattened patches [(t)hwI, O]."""
  return convolution(tensor).reshape(-1, tensor.shape[0])


def squeeze(tensor: np.ndarray) -> np.ndarray:
  """Drops axes of length 1 at the front."""
  while tensor.ndim > 1 and tensor.shape[0] == 1:
    tensor = tensor[0]
  return tensor


def rows(tensor: np.ndarray) -> np.ndarray:
  """Tokens [1, R, D] -> [R, D]."""
  return tensor.reshape(tensor.shape[-2:])


@dataclasses.dataclass(frozen=True)
class Rule:
  r"""What becomes of the tensors whose whole name matches a pattern.

  Attributes:
    pattern: regular expression of the published name.
    targets: paths of our variables, with \1 for the groups of the pattern: "params/block_\1/norm1/scale". A target
      that ends in [1/3] is the second third of that variable along its last axis. Several targets share the tensor
      equally along its first axis, None among them leaves that share out. No target: the tensor is left out by intent.
    transform: of the array, after sharing.
    optional: a target that the network does not have is left out too (a classifier that is not wanted).
  """

  pattern: str
  targets: str | tuple[str | None, ...] = ()
  transform: Callable[[np.ndarray], np.ndarray] = same
  optional: bool = False

  def expand(self, name: str) -> tuple[str | None, ...] | None:
    """Our paths for the tensor, or None if the rule is not about it."""
    match = re.fullmatch(self.pattern, name)
    if match is None:
      return None
    targets = (self.targets,) if isinstance(self.targets, str) else self.targets
    return tuple(target and match.expand(target) for target in targets)


Layout = Sequence[Rule]


def is_ours(tensors: Mapping[str, Any]) -> bool:
  """Whether the names are paths of our variables."""
  return bool(tensors) and all(name.startswith(("params/", "batch_stats/")) for name in tensors)


def choose_layout(names: Sequence[str], layouts: Sequence[Layout]) -> Layout:
  """The layout that names most of these tensors, the first of equals."""
  named = lambda layout: sum(any(rule.expand(name) is not None for rule in layout) for name in names)
  return max(layouts, key=named)


def shape_for(path: str, tensors: Mapping[str, Any], layout: Layout) -> tuple[int, ...] | None:
  """The published shape of the tensor that fills the variable at `path`; None if there is none."""
  if is_ours(tensors):
    return tuple(tensors[path].shape) if path in tensors else None
  for name, tensor in tensors.items():
    if any(path in (rule.expand(name) or ()) for rule in layout):
      return tuple(tensor.shape)
  return None


def convert_tensors(
  tensors: Mapping[str, np.ndarray], layout: Layout, wanted: Mapping[str, Any], subject: str
) -> dict[str, np.ndarray]:
  """The variables by path, float32.

  Args:
    tensors: published name, or our path, -> array of a floating type (integer tensors only where they are left out).
    layout: rules for published names.
    wanted: path -> something with the shape that the network needs.
    subject: which weights for which network, for the message.

  Raises:
    WeightsError: anything left over on either side, of another shape, of another type or not finite.
  """
  problems: dict[str, list[str]] = collections.defaultdict(list)
  pieces: dict[str, list[tuple[str, str, np.ndarray]]] = collections.defaultdict(list)
  for name, tensor in tensors.items():
    for path, array in _place(name, tensor, layout, is_ours(tensors), wanted, problems):
      pieces[_SLICE.sub(r"\1", path)].append((path, name, array))
  filled = {}
  for path, leaf in wanted.items():
    if path not in pieces:
      problems["missing"].append(f"{path} {_text(leaf.shape)}")
    else:
      filled[path] = _fill(path, tuple(leaf.shape), pieces[path], problems)
  if problems:
    raise WeightsError(f"{subject}: {_describe(problems)}. {_remedy(problems)}")
  return filled


def _place(
  name: str,
  tensor: np.ndarray,
  layout: Layout,
  ours: bool,
  wanted: Mapping[str, Any],
  problems: dict[str, list[str]],
) -> list[tuple[str, np.ndarray]]:
  """(path, array) for every variable or slice of one that this tensor fills."""
  matching = (
    [Rule(re.escape(name), name.replace("\\", r"\\"))] if ours else [r for r in layout if r.expand(name) is not None]
  )
  if len(matching) != 1:
    problems["unknown" if not matching else "ambiguous"].append(f"{name} {_text(tensor.shape)}")
    return []
  rule = matching[0]
  targets = rule.expand(name)
  has = lambda target: _SLICE.sub(r"\1", target) in wanted
  if rule.optional:
    targets = tuple(target if target and has(target) else None for target in targets)
  if not any(targets):
    return []
  if unknown := [target for target in targets if target and not has(target)]:
    problems["unknown"].append(f"{name} {_text(tensor.shape)} (for {unknown[0]}, which this network does not have)")
    return []
  if not (np.issubdtype(tensor.dtype, np.floating) or tensor.dtype == ml_dtypes.bfloat16):
    problems["of another type"].append(f"{name} is {tensor.dtype}, floating point is needed")
    return []
  if tensor.ndim == 0 or tensor.shape[0] % len(targets):
    problems["of another shape"].append(f"{name} {_text(tensor.shape)} can't be cut into {len(targets)} parts")
    return []
  tensor = np.asarray(tensor, np.float32)
  if not np.isfinite(tensor).all():
    problems["not finite"].append(f"{name} {_text(tensor.shape)}")
    return []
  shares = np.split(tensor, len(targets))
  return [(target, rule.transform(share)) for target, share in zip(targets, shares, strict=True) if target]


def _fill(
  path: str, shape: tuple[int, ...], pieces: list[tuple[str, str, np.ndarray]], problems: dict[str, list[str]]
) -> np.ndarray | None:
  """The variable from the one array or from the slices that are meant for it."""
  slices = [_SLICE.fullmatch(target) for target, _, _ in pieces]
  if not any(slices):
    if len(pieces) > 1:
      problems["filled twice"].append(f"{path} by {' and '.join(name for _, name, _ in pieces)}")
      return None
    return _fit(path, shape, pieces[0][1], pieces[0][2], problems)
  count = int(slices[0][3])
  by_index = {int(match[2]): piece for match, piece in zip(slices, pieces, strict=True) if match}
  if len(pieces) != count or sorted(by_index) != list(range(count)):
    problems["missing"].append(f"{path}: {len(by_index)} of its {count} parts are there")
    return None
  share = (*shape[:-1], shape[-1] // count)
  parts = [_fit(by_index[i][0], share, by_index[i][1], by_index[i][2], problems) for i in range(count)]
  return None if any(part is None for part in parts) else np.concatenate(parts, -1)


def _fit(
  path: str, shape: tuple[int, ...], name: str, array: np.ndarray, problems: dict[str, list[str]]
) -> np.ndarray | None:
  if array.shape != shape:
    problems["of another shape"].append(f"{name} gives {_text(array.shape)}, {path} needs {_text(shape)}")
    return None
  return np.ascontiguousarray(array)


def _describe(problems: Mapping[str, list[str]]) -> str:
  parts = []
  for kind, found in problems.items():
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    parts.append(f"{len(found)} {kind}: {', '.join(found[:_SHOWN])}{more}")
  return "; ".join(parts)


def _remedy(problems: Mapping[str, list[str]]) -> str:
  if set(problems) <= {"missing"}:
    return "The file is not whole: get it again, or name the network that it was saved from."
  if set(problems) <= {"not finite"}:
    return "The file is damaged or was saved from a diverged training: get it again."
  return "Name the network that these weights belong to (its size too), or get the weights of this one."


def _text(shape: Sequence[int]) -> str:
  return f"[{', '.join(map(str, shape))}]"
