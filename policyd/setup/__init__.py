"""Connects a Postfix that works with policyd, which then watches it; and takes that back."""
