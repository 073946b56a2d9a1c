"""What the log of policyd says: how much was asked and refused in a while, and why one mail was refused."""
