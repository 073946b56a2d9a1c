"""Tests of what the log says: reading any log, the report on it, and why one mail was refused."""
