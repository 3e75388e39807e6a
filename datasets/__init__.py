"""Where images come from: folders and zip files, pairs by name, CelebAMask-HQ parts, sketches from photos, alignment.

A plain package of the checkout, never installed (PyPI has a package of this name). Importing it does not import torch.
"""
