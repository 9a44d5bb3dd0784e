"""The demonstration pair: the folders `draft/` and `target/`, Hugging Face's format; see MODEL_CARD.md."""
