"""The pages for the help desk: each is made from the tables and from what the daemon keeps; nothing is changed."""
