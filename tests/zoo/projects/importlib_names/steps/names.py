DROPPED = {"sex"}
