"""What the economy marts need beyond SQL: index numbers, elasticity, and the plain-language explanation."""
