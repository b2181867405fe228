"""What scikit-learn learns from the warehouse: routers, their figures and their files."""
