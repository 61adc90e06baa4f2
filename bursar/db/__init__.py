"""Floor 2: Postgres. Migrations, `decide_batch`, one file of SQL per aggregate."""
