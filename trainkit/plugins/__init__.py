"""Names become parts: the catalog of what can be named, and its resolution."""
