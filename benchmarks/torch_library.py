"""PyTorch as a peer: the same threads, each way of running a module as a side, matrix products for the peak.

What a library offers to the benchmark is said by `gasmcast.jobs.benchmark_peers.Peers`. A side is named by how the
module is run: "torch eager" or "torch.compile", followed by options, each after a comma:

- "channels last": weights and input in that layout.
- "freezing": weights as constants that the compiler may fold, prepack and relayout (inference alone).

A family of networks may know more options; what is left for this file has to be one of these.
"""

import atexit
import contextlib
import functools
import os
import tempfile
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from gasmcast.core.errors import ConfigError
from gasmcast.core.timing import Side

NAME = "torch"
_OPTIONS = ("channels last", "freezing")
_WARM_CALLS = 2
Arrays = Mapping[str, np.ndarray]


def unusable(platform: str) -> str:
  """Why this build of torch can't be compared with on a platform of jax ("cpu", "gpu", "tpu"); "" if it can."""
  if platform == "gpu" and not torch.cuda.is_available():
    return f"torch {torch.__version__} has no CUDA here"
  if platform not in ("cpu", "gpu"):
    return f"torch does not run on a {platform}"
  return ""


def start(threads: int) -> None:
  """As many threads as jax uses, and no compiled program from an earlier run: the first call is to compile."""
  torch.set_num_threads(threads)
  folder = tempfile.TemporaryDirectory(prefix="torch-benchmark-")
  atexit.register(folder.cleanup)
  os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder.name
  torch.manual_seed(0)


def versions() -> dict[str, str]:
  """Of torch and of what gives it its models."""
  import transformers

  found = {"torch": torch.__version__, "transformers": transformers.__version__}
  return found | ({"cuda": torch.version.cuda} if torch.cuda.is_available() else {})


def device(platform: str) -> torch.device:
  """The device that jax computes on."""
  return torch.device("cuda" if platform == "gpu" else "cpu")


def product(side: int, dtype: str, platform: str) -> Callable[[], Any]:
  """Multiplies two square matrices of this size."""
  where = device(platform)
  a, b = (torch.randn(side, side, device=where).to(getattr(torch, dtype)) for _ in range(2))
  out = torch.empty_like(a)

  def run() -> None:
    with torch.inference_mode():
      torch.matmul(a, b, out=out)
    _finish(where)

  return run


def release() -> None:
  """Forgets compiled programs."""
  torch.compiler.reset()
  if torch.cuda.is_available():
    torch.cuda.empty_cache()


def split_name(name: str) -> tuple[bool, frozenset[str]]:
  """Whether a side is compiled, and its options: of "torch.compile, freezing", True and {"freezing"}.

  Raises:
    ConfigError: the name begins with neither "torch eager" nor "torch.compile".
  """
  head, *options = name.split(", ")
  if head not in ("torch eager", "torch.compile"):
    raise ConfigError(f"{name!r} is no side of torch; its name begins with 'torch eager' or 'torch.compile'.")
  return head == "torch.compile", frozenset(options)


def forward_side(
  name: str, module: torch.nn.Module, x: torch.Tensor, options: frozenset[str], arrays: Callable[[Any], Arrays]
) -> Side:
  """The module on `x`, in inference.

  Args:
    name: see above; its options have to be among `options` and those of this file.
    module: may be changed; in its dtype, on its device, in evaluation mode.
    options: that the caller has heeded.
    arrays: named numpy arrays of what the module returns.
  """
  compiled, wanted = split_name(name)
  _refuse_unknown(name, wanted - options)
  module, x = _laid_out(module, x, "channels last" in wanted)
  run = _compiled(module, {"freezing": True} if "freezing" in wanted else None) if compiled else module
  # Weights are frozen only where no gradient is recorded; inference mode is for eager calls.
  mode = torch.no_grad if compiled else torch.inference_mode

  def call() -> Any:
    with mode():
      result = run(x)
    _finish(x.device)
    return result

  if "freezing" in wanted:
    call = _first_under(functools.partial(torch._inductor.config.patch, freezing=True), call)
  return Side(name, call, arrays, _memory(call, x.device), may_fail=True)


def gradient_side(
  name: str,
  module: torch.nn.Module,
  x: torch.Tensor,
  loss: Callable[[Any], torch.Tensor],
  arrays: Callable[[Mapping[str, torch.Tensor]], Arrays],
) -> Side:
  """The gradient of `loss(module(x))` for all parameters, in training mode.

  Args:
    name: as for `forward_side`, without freezing.
    module: may be changed; in its dtype, on its device.
    loss: a scalar from what the module returns.
    arrays: named numpy arrays of the gradient by the names of the parameters.
  """
  compiled, wanted = split_name(name)
  _refuse_unknown(name, wanted)
  if "freezing" in wanted:
    raise ConfigError(f"{name!r}: frozen weights have no gradient; leave the option out.")
  module, x = _laid_out(module, x, "channels last" in wanted)
  module.train()
  names, parameters = zip(*module.named_parameters(), strict=True)
  run = _compiled(module, None) if compiled else module

  def call() -> dict[str, torch.Tensor]:
    gradients = torch.autograd.grad(loss(run(x)), parameters, allow_unused=True, materialize_grads=True)
    _finish(x.device)
    return dict(zip(names, gradients, strict=True))

  return Side(name, call, arrays, _memory(call, x.device), may_fail=True)


def step_side(
  name: str,
  loss: Callable[[Any], torch.Tensor],
  given: Any,
  optimizer: torch.optim.Optimizer,
  clip_norm: float,
  arrays: Callable[[Mapping[str, torch.Tensor]], Arrays],
  options: frozenset[str],
) -> Side:
  """A train step: loss, gradient, clipping by the norm of the whole, update. Loss and gradient are what is compiled.

  Args:
    name: as for `forward_side`, without options of this file.
    loss: of `given`, a scalar; `optimizer` has its parameters.
    clip_norm: largest norm of the gradient.
    arrays: named numpy arrays of {"loss", "grad_norm"}; called before the next step.
    options: that the caller has heeded.
  """
  compiled, wanted = split_name(name)
  if unknown := sorted(wanted - options):
    raise ConfigError(f"{name!r}: {unknown[0]!r} is no option of a train step; use {', '.join(sorted(options))}.")
  parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
  run, where = _compiled(loss, None) if compiled else loss, parameters[0].device

  def call() -> dict[str, torch.Tensor]:
    value = run(given)
    value.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    _finish(where)
    return {"loss": value.detach(), "grad_norm": norm}

  return Side(name, call, arrays, _memory(call, where), may_fail=True)


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
  """As float32 if it is floating point of another kind."""
  tensor = tensor.detach().cpu()
  return (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()


def _refuse_unknown(name: str, wanted: frozenset[str]) -> None:
  if unknown := sorted(wanted - set(_OPTIONS)):
    raise ConfigError(f"{name!r}: {unknown[0]!r} is no option here; use {', '.join(_OPTIONS)}.")


def _laid_out(module: torch.nn.Module, x: torch.Tensor, channels_last: bool) -> tuple[torch.nn.Module, torch.Tensor]:
  last = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
  if not channels_last:
    return module, x.contiguous()
  return module.to(memory_format=last), x.contiguous(memory_format=last)


def _finish(where: torch.device) -> None:
  if where.type == "cuda":
    torch.cuda.synchronize(where)


def _memory(call: Callable[[], Any], where: torch.device) -> Callable[[], int] | None:
  """Of a call on a GPU, as torch counts it."""
  if where.type != "cuda":
    return None

  def measure() -> int:
    for _ in range(_WARM_CALLS):
      call()
    torch.cuda.reset_peak_memory_stats(where)
    before = torch.cuda.memory_allocated(where)
    call()
    return torch.cuda.max_memory_allocated(where) - before

  return measure


def _compiled(module: Callable[[Any], Any], options: dict[str, Any] | None) -> Callable[[Any], Any]:
  """The module, or a function, compiled on its own. Programs are kept by the code that was compiled and by guards that
  don't tell one module from another of its class: without code of its own, a side could be given another side's."""

  def run(x: Any) -> Any:
    return module(x)

  own = types.FunctionType(run.__code__.replace(), run.__globals__, closure=run.__closure__)
  return torch.compile(own, dynamic=False, options=options)


def _first_under(context: Callable[[], Any], call: Callable[[], Any]) -> Callable[[], Any]:
  """The call, whose first time is inside the context: what it sets is read while compiling and costs time after."""
  contexts = iter([context])

  def run() -> Any:
    with next(contexts, contextlib.nullcontext)():
      return call()

  return run
