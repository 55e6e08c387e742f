"""From published tensors to the variables of our modules: a table of rules a layout, strict on both sides.

A layout is a sequence of `Rule`s that names every tensor of the files it stands for. A tensor that two rules name or
none, a variable that nothing fills or two tensors fill, and a wrong shape are errors, all gathered in one message.

Tensors are read one after the other into the variables that they fill, so that no more than the variables and one
tensor are in memory, whatever the size of the file.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from gasmcast.core.errors import WeightsError

CLASSIFIER = "params/logits/"  # where every network has its classifier; it may be left out of any file
_SHOWN = 4  # problems of one kind that a message names
_SLICE = re.compile(r"(.+)\[(\d+)/(\d+)\]")
_ALIGNMENT = 64  # bytes; jax uses an array that is aligned so where it lies, without a copy, on a CPU


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


def linear_rules(
  name: str, path: str, transform: Callable[[np.ndarray], np.ndarray] = linear, optional: bool = False
) -> tuple[Rule, ...]:
  """Weight and bias of a linear layer (or, with their `transform`, of another with a kernel)."""
  return (
    Rule(rf"{name}\.weight", f"{path}/kernel", transform, optional),
    Rule(rf"{name}\.bias", f"{path}/bias", optional=optional),
  )


def norm_rules(name: str, path: str) -> tuple[Rule, ...]:
  """Weight and bias of a norm."""
  return Rule(rf"{name}\.weight", f"{path}/scale"), Rule(rf"{name}\.bias", f"{path}/bias")


def batch_norm_rules(name: str, path: str) -> tuple[Rule, ...]:
  """A torch BatchNorm; `path` is below "params/" and "batch_stats/"."""
  return (
    *norm_rules(name, f"params/{path}"),
    Rule(rf"{name}\.running_mean", f"batch_stats/{path}/mean"),
    Rule(rf"{name}\.running_var", f"batch_stats/{path}/var"),
    Rule(rf"{name}\.num_batches_tracked"),  # torch counts, we do not
  )


OURS: Layout = (
  Rule(rf"({CLASSIFIER}.+)", r"\1", optional=True),
  Rule(rf"((?!{CLASSIFIER})(?:params|batch_stats)/.+)", r"\1"),
)


def is_ours(tensors: Mapping[str, Any]) -> bool:
  """Whether the names are paths of our variables."""
  return bool(tensors) and all(name.startswith(("params/", "batch_stats/")) for name in tensors)


def count_named(names: Sequence[str], layout: Layout) -> int:
  """How many of the tensors a layout names."""
  return sum(any(rule.expand(name) is not None for rule in layout) for name in names)


def choose_layout(names: Sequence[str], layouts: Sequence[Layout]) -> Layout:
  """The layout that names most of these tensors, the first of equals."""
  return max(layouts, key=lambda layout: count_named(names, layout))


def shape_for(path: str, tensors: Mapping[str, Any], layout: Layout) -> tuple[int, ...] | None:
  """The published shape of the tensor that fills the variable at `path`; None if there is none."""
  layout = OURS if is_ours(tensors) else layout
  for name, tensor in tensors.items():
    if any(path in (rule.expand(name) or ()) for rule in layout):
      return _shape(tensor)
  return None


def convert_tensors(
  tensors: Mapping[str, Any],
  layout: Layout,
  wanted: Mapping[str, Any],
  subject: str,
  find_remedy: Callable[[], str] = str,
) -> dict[str, np.ndarray]:
  """The variables by path, float32, in the order of `wanted`.

  Args:
    tensors: published name, or our path, -> array of a floating type (integer tensors only where they are left out),
      or anything that np.asarray makes one of; each is asked for when its turn comes.
    layout: rules for published names.
    wanted: path -> something with the shape that the network needs.
    subject: which weights for which network, for the message.
    find_remedy: makes a remedy that says more than the general one, or "". Asked when there are problems.

  Raises:
    WeightsError: anything left over on either side, of another shape, of another type or not finite.
  """
  if not tensors:
    raise WeightsError(f"{subject}: it holds no tensors. Get it again.")
  problems: dict[str, list[str]] = collections.defaultdict(list)
  plan = _plan(tensors, layout, wanted, problems)
  _require_cover(plan, wanted, problems)
  filled: dict[str, np.ndarray] = {}
  for step in plan:
    for target, array in _shares(step, tensors[step.name], wanted, problems):
      path = _path(target)
      if path not in filled:
        filled[path] = _empty(tuple(wanted[path].shape))
      _part(filled[path], target)[...] = array
  if problems:
    raise WeightsError(f"{subject}: {_describe(problems)}. {find_remedy() or _remedy(problems)}")
  return {path: filled[path] for path in wanted}


@dataclasses.dataclass(frozen=True)
class _Step:
  """A tensor that fills something: `targets` as in a rule, those left out are None."""

  name: str
  targets: tuple[str | None, ...]
  transform: Callable[[np.ndarray], np.ndarray]


def _plan(
  tensors: Mapping[str, Any], layout: Layout, wanted: Mapping[str, Any], problems: dict[str, list[str]]
) -> list[_Step]:
  """What every tensor fills, by its name alone."""
  plan, layout = [], OURS if is_ours(tensors) else layout
  for name, tensor in tensors.items():
    matching = [rule for rule in layout if rule.expand(name) is not None]
    if len(matching) != 1:
      problems["unknown" if not matching else "named by two rules"].append(f"{name} {_text(_shape(tensor))}")
      continue
    rule = matching[0]
    targets = rule.expand(name)
    absent = [target for target in targets if target and _path(target) not in wanted]
    if absent and not rule.optional:
      of = "" if absent[0] == name else f" (for {absent[0]}, which this network does not have)"
      problems["unknown"].append(f"{name} {_text(_shape(tensor))}{of}")
      continue
    targets = tuple(None if target in absent else target for target in targets)
    if any(targets):
      plan.append(_Step(name, targets, rule.transform))
  return plan


def _require_cover(plan: Sequence[_Step], wanted: Mapping[str, Any], problems: dict[str, list[str]]) -> None:
  """Notes every variable that is not filled exactly once: by one tensor, or by each of its slices."""
  claims: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)  # path -> (target, tensor)
  for step in plan:
    for target in filter(None, step.targets):
      claims[_path(target)].append((target, step.name))
  for path, leaf in wanted.items():
    found = {target for target, _ in claims[path]}
    slices = [match for target in found if (match := _SLICE.fullmatch(target))]
    parts = int(slices[0][3]) if slices else 1
    if len(found) < len(claims[path]) or 0 < len(slices) < len(found):
      problems["filled twice"].append(f"{path} by {' and '.join(name for _, name in claims[path])}")
    elif not found:
      problems["missing"].append(f"{path} {_text(leaf.shape)}")
    elif len(found) < parts:
      there = "1 part is" if len(found) == 1 else f"{len(found)} parts are"
      problems["missing"].append(f"{path} {_text(leaf.shape)} ({there} there of {parts})")


def _shares(
  step: _Step, tensor: Any, wanted: Mapping[str, Any], problems: dict[str, list[str]]
) -> Iterator[tuple[str, np.ndarray]]:
  """(target, array) for every variable or slice of one that the tensor fills, where the array fits."""
  array, count = _read(step.name, tensor, problems), len(step.targets)
  if array is None:
    return
  if count > 1 and (array.ndim == 0 or array.shape[0] % count):
    problems["of another shape"].append(f"{step.name} is {_text(array.shape)}, which can't be cut into {count} parts")
    return
  for target, share in zip(step.targets, np.split(array, count) if count > 1 else [array], strict=True):
    if target is None:
      continue
    shape, problem = _needed(target, wanted), None
    try:
      piece = step.transform(share)
      if piece.shape != shape:
        becomes = f", which becomes {_text(piece.shape)}" if piece.shape != array.shape else ""
        problem = f"{becomes}, but {target} is {_text(shape)}"
    except (ValueError, IndexError) as error:
      problem = f", which can't become {target} {_text(shape)} ({_first_line(error)})"
    if problem is None:
      yield target, piece
    else:
      problems["of another shape"].append(f"{step.name} is {_text(array.shape)}{problem}")


def _read(name: str, tensor: Any, problems: dict[str, list[str]]) -> np.ndarray | None:
  """The tensor as an array of finite floating point numbers, None if it is something else."""
  try:
    array = np.asarray(tensor)
  except (
    AttributeError,
    TypeError,
    ValueError,
    RuntimeError,
  ) as error:  # a type that NumPy lacks, a tensor in training
    kind = getattr(tensor, "dtype", type(tensor).__name__)
    problems["of another type"].append(f"{name} is {kind}, which can't be read as an array ({_first_line(error)})")
    return None
  if not jnp.issubdtype(array.dtype, np.floating) or array.dtype.itemsize < 2:
    problems["of another type"].append(f"{name} is {array.dtype}, not one of float16, bfloat16, float32, float64")
    return None
  if array.dtype.itemsize > 4:
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is told below
      array = array.astype(np.float32)
  if not np.isfinite(array).all():
    problems["not finite"].append(f"{name} {_text(array.shape)}")
    return None
  return array


def _path(target: str) -> str:
  """The path of a variable, without the slice of it."""
  return _SLICE.sub(r"\1", target)


def _needed(target: str, wanted: Mapping[str, Any]) -> tuple[int, ...]:
  """The shape of a variable, or of a slice of one."""
  shape, slice_ = tuple(wanted[_path(target)].shape), _SLICE.fullmatch(target)
  return (*shape[:-1], shape[-1] // int(slice_[3])) if slice_ else shape


def _part(variable: np.ndarray, target: str) -> np.ndarray:
  """The view of a variable that a target names."""
  slice_ = _SLICE.fullmatch(target)
  if slice_ is None:
    return variable
  width = variable.shape[-1] // int(slice_[3])
  return variable[..., int(slice_[2]) * width : (int(slice_[2]) + 1) * width]


def _empty(shape: tuple[int, ...]) -> np.ndarray:
  """An uninitialised float32 array that begins at a multiple of `_ALIGNMENT`."""
  size = 4 * math.prod(shape)
  memory = np.empty(size + _ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % _ALIGNMENT
  return memory[start : start + size].view(np.float32).reshape(shape)


def _describe(problems: Mapping[str, list[str]]) -> str:
  parts = []
  for kind, found in problems.items():
    noun = "variable" if kind in ("missing", "filled twice") else "tensor"
    head = f"1 {noun} is {kind}" if len(found) == 1 else f"{len(found)} {noun}s are {kind}"
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    parts.append(f"{head}: {', '.join(found[:_SHOWN])}{more}")
  return "; ".join(parts)


def _remedy(problems: Mapping[str, list[str]]) -> str:
  if set(problems) <= {"missing"}:
    return "The file is not whole: get it again, or name the network that it was saved from."
  if set(problems) <= {"not finite"}:
    return "The file is damaged or was saved from a diverged training: get it again."
  if set(problems) <= {"of another type"}:
    return "Save the weights in one of these types."
  return "Name the network that these weights belong to (its size too), or get the weights of this one."


def _shape(tensor: Any) -> tuple[int, ...]:
  """Without reading a tensor that lies in a file."""
  return tuple(tensor.shape) if hasattr(tensor, "shape") else np.shape(tensor)


def _text(shape: Sequence[int]) -> str:
  return f"[{', '.join(map(str, shape))}]"


def _first_line(error: Exception) -> str:
  return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
