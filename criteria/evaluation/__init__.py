"""How good are these results? Pictures against ground truth, input and each other; `scripts/evaluate.py` is the door."""
