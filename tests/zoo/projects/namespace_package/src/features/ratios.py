from src import units


def per_person(frame):
    return (units.MONTHS * frame["rent"] / frame["people"]).to_frame()
