"""What a person asks of a run or a set-up, each command its own file; `cli` reads the command line and calls them."""
