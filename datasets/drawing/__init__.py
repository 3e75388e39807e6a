"""Photos drawn as people draw them, in pen strokes."""
