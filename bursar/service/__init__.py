"""Floor 4: processes, the broker, the web, gateways, the command line."""
