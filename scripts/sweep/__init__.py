"""A program over a grid of its own flags: settings, their execution, their comparison."""
