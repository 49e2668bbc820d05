"""What can be wrong with a slide."""

from shared.errors import Invalid


class BrokenSlide(Invalid):
    """It is a slide by its headers, but its pixels cannot be read."""

    slug, title = "broken-slide", "Broken slide"
