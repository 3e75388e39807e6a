"""One file for each `--method`, with its options and how it is built, and the steps and games that they train with."""
