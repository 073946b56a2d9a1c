"""Tests of `policyd.replica`."""
