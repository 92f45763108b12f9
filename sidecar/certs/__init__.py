"""Makes certificates: a small authority, and the set that development needs."""
