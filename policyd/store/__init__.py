"""The tables: their schema, the daemon's reads, the lists for people, and changes with their journal."""
