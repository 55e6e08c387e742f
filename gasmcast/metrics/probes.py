"""Linear probes: what a linear classifier reads out of frozen features. By scikit-learn, the extra [report]."""

import numpy as np
from jaxtyping import Float, Int

from gasmcast.core.errors import ConfigError, DataError


def linear_probe(
  train: Float[np.ndarray, "n D"], labels: Int[np.ndarray, "n"], test: Float[np.ndarray, "m D"], strength: float
) -> Int[np.ndarray, "m"]:
  """The classes that logistic regression on standardised features gives the rows of `test`.

  Args:
    strength: inverse of the L2 penalty (scikit-learn's C); chosen beforehand, never on the rows of `test`.

  Raises:
    ConfigError: scikit-learn is not installed.
    DataError: the rows of `train` are of one class.
  """
  try:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
  except ImportError as error:
    raise ConfigError('linear probes need scikit-learn; pip install -e ".[report]" brings it.') from error
  if (labels == labels[0]).all():
    raise DataError(
      f"all {len(labels)} examples of a linear probe are of class {labels[0]}; it needs two classes or more."
    )
  model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
  return model.fit(train, labels).predict(test)
