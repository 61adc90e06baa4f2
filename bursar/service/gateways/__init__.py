"""Gateways to what the service calls. Each translates its vendor's errors into ours, and nothing else does."""
