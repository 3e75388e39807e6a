"""Training: options, the loop, logs, several processes; the methods lie below."""
