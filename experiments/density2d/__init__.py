"""An energy of points in the plane, measured on a grid: the program and its model."""
