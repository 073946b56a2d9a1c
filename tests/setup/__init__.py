"""Tests of `policyd setup`: with a Postfix of their own, and killed at each step."""
