"""What is wrong with a machine, and what will slow a run on it: each check is one function, in a table of them."""
