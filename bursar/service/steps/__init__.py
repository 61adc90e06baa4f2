"""ACT: what decisions asked for, carried out within bounds, retried from Postgres, decided on afterwards."""
