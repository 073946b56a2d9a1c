"""What administrators do with the tables, past any face."""
