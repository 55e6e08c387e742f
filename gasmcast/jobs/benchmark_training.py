"""What job benchmark measures of training: a step beside another library's, the loop around it, memory over many steps.

Every kind of case is a dataclass of `KINDS` with a method `prepare`.
"""

from collections.abc import Mapping
from typing import Any

from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_peers import Peers
from gasmcast.jobs.benchmark_training_loop import LoopCase, MemoryCase
from gasmcast.jobs.benchmark_training_step import StepCase

KINDS = {"step": StepCase, "loop": LoopCase, "memory": MemoryCase}


def parse_case(values: Mapping[str, Any], where: str) -> Any:
  """A case of the kind that it names.

  Raises:
    ConfigError: there is no such kind, or a field is unknown or can't be.
  """
  fields = dict(values)
  kind = fields.pop("kind", None)
  if kind not in KINDS:
    raise ConfigError(f"{where}.kind = {kind!r} is no kind of case; use one of {', '.join(KINDS)}.")
  return parse(KINDS[kind], fields, where)


def versions() -> dict[str, str]:
  """Nothing beside what every run needs, and the peers."""
  return {}


def prepare(where: str, case: Any, peers: Peers | None, platform: str) -> Prepared:
  """The sides of a case, ours first."""
  return case.prepare(where, peers, platform)
