"""A stateful stand-in for Stripe without its transport: requests in, answers and events out, and a clock of its own."""
