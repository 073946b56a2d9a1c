"""The tests of `policyd/daemon/`."""
