"""Where the pages are."""

from django.urls import path

from shop.views import change, product

urlpatterns = [path("product/<int:number>/", product), path("product/<int:number>/change/", change)]
