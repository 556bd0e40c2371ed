"""The data plane: plan, check, ask, verify, merge, record. Imports no grpc."""
