def digits():
    return 1
