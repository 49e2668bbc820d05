"""What an upload costs: `python -m benchmarks.upload`."""
