"""pixel2style2pixel: sketches and label maps become W+ style vectors, which a StyleGAN2 turns into faces.

Importing this package does nothing: import the module you need (`psp.weights.load`,
`psp.images.preprocess`, `psp.models.psp`, ...).
"""

__version__ = "0.1.0"
