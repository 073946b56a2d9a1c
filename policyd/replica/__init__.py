"""The replica on a mail host: who brings it up to date, and how that goes."""
