"""Runs the jobs of a configuration.

  python launch/main.py --config configs/quickstart.py --workdir runs/quickstart
  python launch/main.py --config configs/quickstart.py --workdir runs/quickstart --job evaluate --config.data.threads=4

Every field of the config file can be set as --config.FIELD=VALUE, after --config. The same command with the same
--workdir resumes. Exit codes: 0 done, 2 something outside the code has to be mended (one line says what), 3 the job is
done and a check of the data failed (one line says which), 1 anything else, for example told to stop.

Several processes, on one machine or on many, train as one (docs/distributed.md):

  srun python launch/main.py --config FILE --workdir FOLDER --job train --distributed
  python launch/main.py --config FILE --workdir FOLDER --job train --coordinator HOST:PORT --processes 2 --process 0
"""

import os
import pathlib
import shlex
import sys
import traceback

from absl import app, flags
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # configs import configs.common

from gasmcast.core.cache import cache_folder  # noqa: E402
from gasmcast.core.errors import (  # noqa: E402
  EXIT_CHECKS,
  EXIT_DEFECT,
  EXIT_DONE,
  EXIT_USER,
  ChecksFailed,
  ConfigError,
  Stopped,
  UserError,
)

_CONFIG = config_flags.DEFINE_config_file("config", None, "the experiment, a file of configs/", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "holds everything of the run; the same one resumes it")
_JOB = flags.DEFINE_string("job", None, "jobs in place of the config's own, separated by commas: train,evaluate")
_DEBUG = flags.DEFINE_bool("debug", False, "show the traceback of errors")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "one of several processes; the cluster (Slurm, ...) says which")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no cluster says it")
_PROCESSES = flags.DEFINE_integer("processes", None, "how many processes compute together")
_PROCESS = flags.DEFINE_integer("process", None, "which of them this is, from 0")
_CONNECT_TIMEOUT = flags.DEFINE_integer("connect_timeout", 300, "seconds in which all of them must have come", 1)
_HEARTBEAT_TIMEOUT = flags.DEFINE_integer("heartbeat_timeout", 100, "seconds of silence after which one is dead", 1)


def parse(argv: list[str]) -> None:
  """Fills the flags. Whatever ml_collections makes of a wrong field, type or file becomes a ConfigError."""
  app.define_help_flags()
  try:
    unused = flags.FLAGS(argv)[1:]
    if _CONFIG.value is not None:
      _CONFIG.value.keys()  # a file that can't be loaded is an error only when it is asked for something
  except Exception as error:  # a config file is code: it can raise anything
    raise ConfigError(f"command line: {_words(error)}") from error
  if unused:
    raise ConfigError(f"command line: {unused[0]!r} is no flag; a field is set by --config.FIELD=VALUE.")
  for name in ("config", "workdir"):
    if flags.FLAGS[name].value is None:
      raise ConfigError(f"command line: --{name} is missing; python launch/main.py --help lists the flags.")


def _words(error: Exception) -> str:
  """What an error of the flags says, on one line; ml_collections wraps one error into another."""
  inner, unknown = error, isinstance(error, (AttributeError, KeyError))
  while inner.args and isinstance(inner.args[0], Exception):
    inner = inner.args[0]
  said = str(inner.args[0] if inner.args else inner)
  flag, raised, trace = said.partition(": Error whilst parsing config file:")
  if raised:  # with the whole traceback of the config file, whose last line says what it is
    said = f"{flag}: {trace.strip().splitlines()[-1].removeprefix('ValueError: ')}"
  text = " ".join(said.split())
  return f"the config has no field {text}" if unknown else text


def prepare_jax() -> None:
  """What jax reads from the environment when it is imported, where the user has not set it."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no word of XLA below a warning
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache_folder("jax"))  # a resumed run does not compile again


def run(command: str) -> None:
  """Joins the other processes, finds the jobs, checks the configuration for all of them, runs them in order."""
  from gasmcast.training import distributed

  place = distributed.find_place(_DISTRIBUTED.value, _COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  if place is not None:
    distributed.join(place, _CONNECT_TIMEOUT.value, _HEARTBEAT_TIMEOUT.value)
  from gasmcast.jobs import table  # takes seconds, and builds on jax, which may meet no device before the others

  names = _JOB.value or _CONFIG.value.job
  if place is not None:
    table.require_distributed(names)
  try:
    for job, given in table.prepare(names, _CONFIG.value, _WORKDIR.value, command, distributed.console()):
      job.run(given)
  except Stopped:
    distributed.leave()  # all have stopped at the same step
    raise
  distributed.leave()


def give_up(code: int, error: Exception) -> int:
  """The exit code; does not return in one of several processes, which must not wait for the others."""
  if flags.FLAGS.is_parsed() and (_DISTRIBUTED.value or _PROCESSES.value):
    from gasmcast.training import distributed

    distributed.give_up(code, joined=not isinstance(error, distributed.NotJoinedError))
  return code


def main() -> int:
  """The exit code of the command line."""
  try:
    parse(sys.argv)
    prepare_jax()
    run(shlex.join(["python", *sys.argv]))
  except Stopped:
    return EXIT_DEFECT  # the loop has said so
  except ChecksFailed as error:
    print(f"checks failed: {error}", file=sys.stderr)
    return give_up(EXIT_CHECKS, error)
  except Exception as error:
    if any(argument.lstrip("-").startswith("debug") for argument in sys.argv):
      traceback.print_exc()
    kind = "error" if isinstance(error, UserError) else f"internal error, --debug shows where: {type(error).__name__}"
    print(f"{kind}: {error}", file=sys.stderr)
    return give_up(EXIT_USER if isinstance(error, UserError) else EXIT_DEFECT, error)
  return EXIT_DONE


if __name__ == "__main__":
  sys.exit(main())
