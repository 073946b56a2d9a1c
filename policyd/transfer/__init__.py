"""The bulk formats: a file -> records, the tables -> a file. Nothing here knows the database."""
