"""Floor 3: what each sweep finds due."""
