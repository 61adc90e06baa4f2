"""How much is decided at once. Apart from what decides it, for the settings name these numbers, and all read those."""

MAX_ITEMS = 256  # of one transaction
BATCHES_AT_ONCE = 4  # one computes while the others wait for Postgres; the best number is the machine's (decision 23)
