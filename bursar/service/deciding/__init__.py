"""Taking items to their outcomes, whatever happens while they are saved."""
