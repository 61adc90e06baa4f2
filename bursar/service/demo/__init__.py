"""The demo's outside world: lives at Stripe, stand-ins for the services we call, the replay and the verdict."""
