BAD = ["cancel", "late", "angry"]
