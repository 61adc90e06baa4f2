"""The commands that call Stripe, each an operation: decided, carried out as a plan, applied (KC-20…KC-54)."""
