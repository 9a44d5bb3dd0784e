"""Who may come in: TLS, tokens and tenants, and what strangers may hold."""
