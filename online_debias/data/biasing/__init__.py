"""What makes a bias: colours, corruptions, shares. May import: data.reading, runtime, errors."""
