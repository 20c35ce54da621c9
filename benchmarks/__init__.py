"""What trainkit costs, measured against the loop one would write by hand, side by side in one run."""
