"""Studies over runs: which runs to make, making them through crashes, and what they say together."""
