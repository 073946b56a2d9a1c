"""Bulk formats, one a file: octets -> rows, objects -> text. Nothing here knows the database."""
