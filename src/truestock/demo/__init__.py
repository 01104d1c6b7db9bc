"""A made-up retailer to try the service with; the service itself never imports this package."""
