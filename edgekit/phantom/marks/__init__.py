"""What is burned into a film: letters, rulers, arrows, frames."""
