"""A Potts model of aligned sequences: the program, its model, its pictures and its report."""
