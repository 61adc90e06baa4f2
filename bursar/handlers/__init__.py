"""Floor 3: one file per message family: which parts it needs, which decision it calls."""
