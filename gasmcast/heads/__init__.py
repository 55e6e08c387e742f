"""From tokens to predictions: pooling and classification."""
