"""Fine-tuning datasets from calls: recipes, the stages that choose and clean examples, and immutable versions."""

STEPS = ("choose", "check", "redact", "deduplicate", "decontaminate", "limit", "split", "review")
"""What is done in one go, in order (pipelines/finetune/stages.py); a build publishes what the last one left."""
