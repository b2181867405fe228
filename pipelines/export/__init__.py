"""Datasets in the formats of those who use them, each with a card and a manifest."""
