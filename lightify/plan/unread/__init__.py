"""What nothing reads any more in the hooks and in the host, and what of it may go."""
