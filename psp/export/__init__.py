"""Models as ONNX files, which run without Python and without this project: docs/export.md."""
