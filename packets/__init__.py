"""What packet filters do to packets: pure, exact, and usable without the rest of the project."""
