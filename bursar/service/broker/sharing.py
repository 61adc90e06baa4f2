"""Who should consume which partition: evenly, and with few moves when the workers change. Pure."""

import hashlib
from collections import Counter
from collections.abc import Collection


def share(workers: Collection[str], partitions: int) -> dict[int, str]:
    """Partition → worker, by rendezvous hashing; no worker has more than one partition more than another."""
    owners: dict[int, str] = {}
    loads: Counter[str] = Counter()
    if not workers:
        return owners
    by_score = sorted(
        ((_score(worker, partition), worker, partition) for worker in workers for partition in range(partitions)),
        reverse=True,
    )
    each = partitions // len(workers)
    for most in (each, each + 1):  # everybody's equal part first, then what is left over
        for _, worker, partition in by_score:
            if partition not in owners and loads[worker] < most:
                owners[partition] = worker
                loads[worker] += 1
    return owners


def _score(worker: str, partition: int) -> bytes:
    return hashlib.blake2b(f"{partition}|{worker}".encode(), digest_size=8).digest()
