"""Issue, govern and audit OpenAI ChatKit sessions from Django."""
