"""What the documentation claims about speed, measured: ratios of two sides that run in turn in one process tree."""
