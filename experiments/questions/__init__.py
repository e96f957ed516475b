"""The homework's questions, one program each."""
