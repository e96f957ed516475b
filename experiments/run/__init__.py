"""What every program does around its mathematics: flags, work directory, training, exit codes."""
