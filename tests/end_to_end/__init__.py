"""The product driven from outside: over HTTP, with real servers."""
