"""An energy of 8x8 digits with the noise level as an input: the program and its model."""
