"""What is learnt from the warehouse: routers, and what a policy would have earned on the calls that were logged."""
