GRADES = ["A", "B", "C", "D"]


def rank(grade):
    return GRADES.index(grade)
