"""Programs that prove what tests only sample."""
