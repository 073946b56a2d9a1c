"""The daemon: sockets, connections, workers, and `run.py`, which wires them."""
