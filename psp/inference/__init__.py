"""Folders of images through a model: options, engine, results."""
