"""Faults for real: a load of signed webhooks while processes are killed, servers restarted and connections cut."""
