"""Two callbacks and a strategy: found through entry points, and imported when one of them is named."""
