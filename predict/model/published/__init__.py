"""Published models, one module for each vendor or group of small vendors."""
