"""What `doctor` looks at, by what is examined: the cluster's nodes, and what a run needs."""
