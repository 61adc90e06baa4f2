"""Comparing us with Stripe: events that never came (MS-9), rows that do not stand as they should (MS-10)."""
