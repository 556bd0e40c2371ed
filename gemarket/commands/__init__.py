"""The commands of `gemarket`, one module each."""
