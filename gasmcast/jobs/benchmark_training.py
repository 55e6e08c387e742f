"""What job benchmark measures of training: a step beside another library's, the loop around it, memory over many steps.

Every kind of case is a dataclass of `KINDS` with a method `prepare`.
"""

import functools
from typing import Any

from gasmcast.core.config import parse_kind
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_peers import Peers
from gasmcast.jobs.benchmark_training_loop import LoopCase, MemoryCase
from gasmcast.jobs.benchmark_training_step import StepCase

KINDS = {"step": StepCase, "loop": LoopCase, "memory": MemoryCase}

parse_case = functools.partial(parse_kind, KINDS)


def versions() -> dict[str, str]:
  """Nothing beside what every run needs, and the peers."""
  return {}


def prepare(where: str, case: Any, peers: Peers | None, platform: str) -> Prepared:
  """The sides of a case, ours first."""
  return case.prepare(where, peers, platform)
