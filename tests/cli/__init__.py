"""The tests of `policyd/cli/`: commands as an administrator types them."""
