"""What everything stands on: errors, identifiers, money, settings, database, certificates."""
