"""The errors a user can mend. Each message names the rule, the numbers seen and the remedy.

`launch/main.py` prints them as one line and exits with `EXIT_USER`; every other exception is a defect of
gasmcast or of the machine and exits with `EXIT_DEFECT`. Constructors take one message, so that an error
raised in a data worker can be pickled back to the parent. `ChecksFailed` alone exits with `EXIT_CHECKS`.
"""

EXIT_DONE = 0
EXIT_DEFECT = 1  # or told to stop
EXIT_USER = 2
EXIT_CHECKS = 3  # a job has done its work and found that the data are not as they must be


class UserError(Exception):
  """Something outside the code has to change: a field, a file, a folder, a machine."""


class ConfigError(UserError):
  """A configuration field is unknown, of the wrong type, or impossible beside another."""


class DataError(UserError):
  """An annotation, a video or a data folder is missing or can't be used."""


class WeightsError(UserError):
  """Weights are missing, damaged, or of another network."""


class WorkdirError(UserError):
  """A working directory holds another run, a damaged run, or can't be written."""


class ChecksFailed(UserError):
  """The job is done, its results are written, and a check with the severity "error" failed."""


class Stopped(Exception):
  """Told to stop (SIGTERM) and stopped cleanly; what comes after in the list of jobs must not run."""


class TrainingError(UserError):
  """Training can't go on: non-finite losses, too many unreadable clips."""
