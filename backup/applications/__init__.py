"""What runs on the data that a database job saves: how each kind is brought back to life, and what it then says."""
