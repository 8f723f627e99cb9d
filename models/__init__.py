"""Model cards: one TOML file per encoder, and no weights."""
