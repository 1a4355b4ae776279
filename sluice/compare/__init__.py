"""What is equal: canonical values and texts, and what a comparison of two sides found."""
