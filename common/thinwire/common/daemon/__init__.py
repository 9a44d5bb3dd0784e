"""What every process does: arguments, standard streams, files, exit codes, start and stop."""
