"""Pages, cached as any project of Django's would: nothing here knows of preheat."""

from django.core.cache import cache
from django.http import HttpResponse, JsonResponse

from shop.catalogue import describe


def product(request, number):
    """A product's page."""
    return JsonResponse(cache.get_or_set(f"product:{number}", lambda: describe(number), timeout=900))


def change(request, number):
    """What an editor does who has changed a product."""
    cache.delete(f"product:{number}")
    return HttpResponse(status=204)
