"""Fine-tuning datasets from calls: recipes, the stages that choose and clean examples, and immutable versions."""
