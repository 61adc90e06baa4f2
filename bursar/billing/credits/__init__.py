"""Prepaid credits: the ledger, deposits, and paying hosting from it (CR)."""
