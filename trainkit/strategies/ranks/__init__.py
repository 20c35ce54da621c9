"""How the ranks of a run agree, and how each knows where the others stand."""
