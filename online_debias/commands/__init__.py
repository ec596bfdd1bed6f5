"""What each subcommand of `online-debias` does."""
