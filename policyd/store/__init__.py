"""The tables: their schema, queries, changes and journal, and the files that hold them."""
