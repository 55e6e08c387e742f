"""Arrays <-> disk: features of frozen backbones in sharded, fingerprinted files. Imports no jax."""
