"""The composition roots: what a process builds, in which order, and how it ends."""
