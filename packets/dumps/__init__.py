"""What tools on a node print of its packet filters, as our types: one module for each tool."""
