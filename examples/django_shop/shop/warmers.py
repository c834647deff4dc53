"""What makes the values of the cache before anybody asks; found by `preheat.django` as it starts."""

from preheat.django import warmable
from shop.catalogue import describe


@warmable("product:{number:int}")
def product(number):
    return describe(number)
