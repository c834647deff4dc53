"""The application: at its start it watches the caches that PREHEAT names, and finds the loaders."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.utils.connection import ConnectionProxy
from django.utils.module_loading import autodiscover_modules, import_string

from preheat import heat
from preheat._process import configure_process, is_taken
from preheat.django.configuration import read_configuration
from preheat.errors import UsageError


class PreheatConfig(AppConfig):  # type: ignore[misc]  # Django ships no types
    """Watches caches from the start on; opens nothing and starts no thread before the first access."""

    name = "preheat.django"
    label = "preheat"
    verbose_name = "Cache warm-up"

    def ready(self) -> None:
        """Called by Django once everything is imported.

        Raises:
            ImproperlyConfigured: PREHEAT can't be used; one sentence.
        """
        try:
            configuration = read_configuration(getattr(settings, "PREHEAT", {}), list(caches), import_string)
            configure_process(configuration.settings)
            for cache in configuration.watched:
                if not is_taken(cache.name):  # a test runner may get an application ready twice
                    proxy = ConnectionProxy(caches, cache.alias)
                    heat.watch(proxy, name=cache.name, load=cache.load, priority=cache.priority)
        except UsageError as error:
            raise ImproperlyConfigured(str(error)) from None
        autodiscover_modules("warmers")
