"""What `scripts/benchmark.py` measures: this project's networks beside the structure of the original pSp."""
