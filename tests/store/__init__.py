"""The tables: the file they are in, what is read from them, and every change to them."""
