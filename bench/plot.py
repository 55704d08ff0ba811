"""The plot."""


def write(path, results):
    pass
