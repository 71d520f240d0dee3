"""What an account can do: no HTTP, no SQL."""
