"""One process against two, and when communication costs more than computing."""
