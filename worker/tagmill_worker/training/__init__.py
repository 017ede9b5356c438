"""Training: from labelled images to a version of a model that is measured and probed.

::

    dataset ─▶ features ─▶ contents ─▶ head ─▶ (fine_tuning) ─▶ evaluation ─▶ making ─▶ probe
    what is    vectors of   checked,     trained on vectors      against the    a version
    listed     the base     split        of the frozen base      champion       of files

`trainer.train` reads as that row. Nothing here knows Celery, nor the store.
"""
