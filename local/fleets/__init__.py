"""Sample fleets of raw ARM JSON, and what makes fleets of any size."""
