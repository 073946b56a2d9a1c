"""policyd as an administrator has it: the command, the daemon, and a real Postfix with contrib/postfix."""
