"""What administrators do with the tables, whichever face asks: the command line, a batch, a page."""
