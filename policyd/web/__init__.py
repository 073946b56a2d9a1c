"""Metrics and pages over HTTP, in a process of their own."""
