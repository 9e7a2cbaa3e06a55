"""What a run records, and what a person sees while it goes on."""
