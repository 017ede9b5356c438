"""tagmill: labels very many images. The light side: listing, enqueueing, results."""

__version__ = "0.1.0"
