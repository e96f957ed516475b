"""The programs of experiments/questions, and the page of their answers."""
