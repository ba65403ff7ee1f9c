"""What a probe is made of: prompts, checks, asking, and what the answers say of what a version knows."""
