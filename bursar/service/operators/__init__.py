"""What operators ask and do: why an account stands as it does, parked messages again."""
