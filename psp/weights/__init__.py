"""Weights in files: formats, loading, saving, converting, where they lie."""
