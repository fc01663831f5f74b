"""What every function's HTTP side shares: ids, log line, error shape, access, bodies, health, metrics."""
