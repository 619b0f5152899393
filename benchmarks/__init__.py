"""Side-by-side measurements of a whole-database copy: this program, its peers, and what the servers alone need."""
