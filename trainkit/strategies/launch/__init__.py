"""How this process was started, and how it finds those that were started with it."""
