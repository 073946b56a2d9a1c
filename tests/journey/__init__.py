"""The documents, followed word for word on a system of their own."""
