"""Taking somebody out of everything, keeping them out, and proving it; and the same by age."""
