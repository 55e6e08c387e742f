"""From predictions to numbers, by sums that merge exactly."""
