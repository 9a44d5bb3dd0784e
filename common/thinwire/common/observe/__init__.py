"""What a process shows of itself: log lines, metrics, spans."""
