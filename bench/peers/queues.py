"""What the contenders call their queues at the broker."""

ACCOUNTS = "bursar.accounts"
PARTITIONS = 32
PARTITION_QUEUES = tuple(f"{ACCOUNTS}.p{partition:02d}" for partition in range(PARTITIONS))
BY_HAND = "bench.by_hand"
CELERY, CELERY_FOLLOW_UPS = "bench.celery", "bench.celery.follow_ups"
