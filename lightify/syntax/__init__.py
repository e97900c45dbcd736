"""Source text as a tree, and what Python's own rules say of it: scopes, frames, liveness; knows nothing of training."""
