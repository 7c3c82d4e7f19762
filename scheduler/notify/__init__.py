"""Mail: how messages leave the house."""
