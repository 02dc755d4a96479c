"""Everything that talks to a Lambda endpoint, and reads what it answers."""
