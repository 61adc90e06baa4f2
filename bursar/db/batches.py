"""How much is decided at once. Apart from what decides it, for the settings name these numbers, and all read those."""

MAX_ITEMS = 256  # of one transaction
BATCHES_AT_ONCE = 4  # one computes while the others wait for Postgres; with 2 both wait too often (decision 23)
