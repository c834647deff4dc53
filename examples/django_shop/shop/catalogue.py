"""Where products come from: slow, as a database on the other side of a network would be."""

import time

from django.http import Http404

PRODUCTS = 200


def describe(number):
    """A product; takes a while."""
    if not 0 <= number < PRODUCTS:
        raise Http404
    time.sleep(0.002)
    return {"number": number, "name": f"product {number}", "text": f"All that is known of product {number}. " * 20}
