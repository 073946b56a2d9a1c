"""What is released: what must be in it, and that it is what the tag says."""
