"""The proof by simulation: the real service in one process, everything around it simulated, a seed deciding all."""
