"""The revisions, one for each version of the tables; its number is that version's."""
