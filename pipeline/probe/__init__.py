"""What nodes look like from inside: a script that runs there through Run Command, and what it brings back."""
