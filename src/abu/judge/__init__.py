"""Who is left out, models trained again, and what they say of a ranking."""
