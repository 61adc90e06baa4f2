"""Floor 1: the business. Pure: no I/O, no clock, no randomness, no environment."""
