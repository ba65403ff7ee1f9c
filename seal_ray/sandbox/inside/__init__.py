"""What runs inside of a sandbox: the standard library is all it has."""
