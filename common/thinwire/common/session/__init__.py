"""A session as plain data: messages, states, prompt, checksum, and what a client sees of it."""
