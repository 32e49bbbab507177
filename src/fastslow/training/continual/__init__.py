"""Domain after domain: recipes, combination, measurement."""
