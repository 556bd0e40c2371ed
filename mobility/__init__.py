"""Reference providers of mobility services: ordinary partners of the market."""
