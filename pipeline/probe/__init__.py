"""What nodes look like from inside: a script that runs on them through Run Command, and what it brings back."""
