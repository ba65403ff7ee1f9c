"""What a study is made of: its texts, one step of training, the adapters that pass through it, and who answers."""
