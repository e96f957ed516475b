"""A program killed at random moments, and where it ends."""
