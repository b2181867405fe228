"""Forecasts of list prices, of the price of capability and of spend, each with its record against the past."""
