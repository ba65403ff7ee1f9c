"""What an exploration is made of: its plan, edits as they are read, candidates as they are made, verdicts."""
