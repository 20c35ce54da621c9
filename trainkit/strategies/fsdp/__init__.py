"""Parameters, gradients and states of optimizers dealt out to the ranks."""
