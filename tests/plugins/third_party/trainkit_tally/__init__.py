"""A plugin package for trainkit: it is found through its entry points, and imported when one of them is named."""
