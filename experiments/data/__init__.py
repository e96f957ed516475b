"""Data: published sets, the user's images, toy densities; splits and mini-batches of them."""
