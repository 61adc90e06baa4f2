"""What must hold, each with the number of its rule: written from the rules, not from the code that keeps them."""

from bursar.service.simulation.invariants.table import ALL_ALONG, AT_REST, Broken, check, every_invariant

__all__ = ["ALL_ALONG", "AT_REST", "Broken", "check", "every_invariant"]
