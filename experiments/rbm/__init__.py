"""A restricted Boltzmann machine on binary images: the program and its model."""
