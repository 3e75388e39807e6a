"""What people type: the command `psp`, which the scripts of a checkout share its functions with."""
