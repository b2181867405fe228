"""The arrows that SQL cannot draw: land, stage, gate, build, and what they share."""
