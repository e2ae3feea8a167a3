"""What Tunnelwatch costs, measured against its budgets: `make bench`."""
