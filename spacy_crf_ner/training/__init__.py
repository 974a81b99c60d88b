"""What drives training: the optimizer with parameter groups, and schedules."""
