"""One file per method of training; see `psp.training.method` for what a method is."""
