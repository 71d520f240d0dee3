"""What only development needs; production never imports it."""
