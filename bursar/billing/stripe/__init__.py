"""Stripe as we know it: its objects as far as we read them, and calls to it as data."""
