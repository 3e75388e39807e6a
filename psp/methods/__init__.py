"""One file per method of training; see `psp.methods.base` for what a method is."""
