"""The work of scripts/prepare_data.py: alignment, label maps, sketches, merging, weighing."""
