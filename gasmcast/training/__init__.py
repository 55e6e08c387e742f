"""From a `System` and batches to a trained run in a working directory. Knows no architecture and no data set."""
