"""Emergency plans at work: checked, exercised by drills, reviewed, carried out, and what fell short remembered."""
