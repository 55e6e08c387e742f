"""What belongs together: model, loss, metrics and what is trained, one system a file."""
