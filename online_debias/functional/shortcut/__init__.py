"""Evidence that a view is a shortcut. May import: functional."""
