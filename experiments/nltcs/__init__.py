"""An energy of binary survey data with an exact partition function: program and model."""
