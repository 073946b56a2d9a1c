"""The web process: metrics for Prometheus, and pages for the help desk, both read-only."""
