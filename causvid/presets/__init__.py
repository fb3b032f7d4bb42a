"""Which models there are, loading them, and what they cost."""
