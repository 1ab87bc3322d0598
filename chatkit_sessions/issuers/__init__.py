"""Who issues sessions."""
