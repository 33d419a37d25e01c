"""Networks for other programs, and predictions."""
