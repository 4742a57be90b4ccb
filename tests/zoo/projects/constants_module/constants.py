SEED = 7
LOSS = "log_loss"
COLUMNS = ["mean radius", "mean texture"]
BINS = {"mean radius": [10, 15, 20], "mean texture": (15, 20)}
SCALING = dict(with_mean=True)
MISSING = object()
