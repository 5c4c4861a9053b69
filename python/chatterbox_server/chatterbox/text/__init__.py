"""Text as each model reads it."""
