"""How good are results? Compared with ground truth, input and each other; `scripts/evaluate.py` is the door."""
