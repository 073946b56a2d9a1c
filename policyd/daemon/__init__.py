"""The daemon: sockets, connections, workers, and the one wiring of them."""
