"""How much is decided at once. Apart from what decides it, for the settings name these numbers, and all read those."""

MAX_ITEMS = 256  # of one transaction
BATCHES_AT_ONCE = 4  # one computes while the others wait for Postgres; the best number is the machine's (decision 23)
# Decided in a row, some 5 ms; then others have a turn whom the database answered meanwhile. Seven times in a batch at
# most, beside what a worker may read ahead: far below the 3 s for which a transaction may be idle.
ITEMS_A_TURN = 32
