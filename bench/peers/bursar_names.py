"""What Bursar calls its queues, for those that run without it."""

ACCOUNTS = "bursar.accounts"
PARTITIONS = 32
