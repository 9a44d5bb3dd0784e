"""Trains, distils and measures the bundled draft/target pair."""
