"""All bad or odd inputs that are tried, as a user types them; docs/inputs.md is their table."""
