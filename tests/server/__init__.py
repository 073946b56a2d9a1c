"""The database on a PostgreSQL server, as whoever types commands meets it."""
