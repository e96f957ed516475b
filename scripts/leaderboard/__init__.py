"""Every objective on every problem whose partition function is exact, ranked."""
