"""What is done on a cluster and kept in a ledger: rounds, the gate's trials, evaluations."""
