"""The tests of `policyd/doctor/`: Postfix configurations as people have them, and a real Postfix."""
