"""How much is decided at once. Apart from what decides it, for the settings name these numbers, and all read those."""

MAX_ITEMS = 256  # of one transaction
BATCHES_AT_ONCE = 2  # one computes while the other waits for the commit; more would only make them smaller
