"""Around the two daemons in docker compose: their ends of the link, health, and the test of it all."""
