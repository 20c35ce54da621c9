"""What trainkit costs beside a loop written by hand, and beside its peers: ``python -m benchmarks --help``."""
