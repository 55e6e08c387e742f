"""From tokens to predictions: pooling, joining the streams, classification, traits, verbs and nouns."""
