"""What runs beside the two daemons in docker compose: the link's side-car, health, credentials."""
