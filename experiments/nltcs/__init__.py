"""An energy of binary survey data whose every state is summed over: the program and its model."""
