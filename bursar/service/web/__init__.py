"""The web process: Stripe's webhooks, the API under `/v1`, health, metrics and the documents of both interfaces."""
