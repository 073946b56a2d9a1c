"""What the tests share: the daemon as a process, its peers, and commands as they are typed."""
