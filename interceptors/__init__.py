"""Around a call: telemetry, status, admission, certificate, access, transaction log."""
